// The official JS SDK, unmodified, through the sandbox. Run by ../run.py with tsx: plain Node cannot import its build.
//
// Faults are asked for with a header that the sandbox knows; it is added by a wrapper around fetch, not by the SDK.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { agentFlows } from './agents.mjs';

const { SANDBOX_URL: url, SDK_FOLDER: folder, SDK_VERSION: version } = process.env;
const sdk = await import(pathToFileURL(join(folder, 'node_modules/@inferencesh/sdk/dist/index.js')).href);
const LIMIT = 15_000;

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8DAwMAAAAkCAQEhBfBZAAAAAElFTkSuQmCC', 'base64');
const DATA_URI = `data:image/png;base64,${PNG.toString('base64')}`;

const realFetch = globalThis.fetch;
let nextFault;
globalThis.fetch = (input, init = {}) => {
  const wanted = nextFault && String(input).includes(nextFault.path) && (init.method ?? 'GET').toUpperCase() === nextFault.method;
  if (!wanted) return realFetch(input, init);
  const headers = new Headers(init.headers);
  headers.set('X-Sandbox-Fault', JSON.stringify(nextFault.fault));
  nextFault = undefined;
  return realFetch(input, { ...init, headers });
};
const breakNext = (fault, method = 'POST', path = '/apps/run') => { nextFault = { fault, method, path }; };

const client = sdk.inference({ apiKey: `inf_js_${version}`, baseUrl: url });
const got = (answer) => answer.data;
const run = (app, input, more = {}, options) => client.run({ app, input, ...more }, options);
const failure = async (promise) => {
  let told;
  try { told = await promise; } catch (error) { return error; }
  throw new Error(`no error, but ${JSON.stringify(told)}`);
};
const codeOf = (error) => JSON.parse(error.responseBody).error.code;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const flows = {
  async 'run completes'() {
    const task = await run('sandbox/echo', { text: 'hi' });
    assert.equal(task.status, sdk.TaskStatusCompleted);
    assert.deepEqual(task.output, { text: 'hi' });
  },
  async 'run streams updates'() {
    const seen = [];
    const fields = new Set();
    const task = await run('sandbox/draw', { prompt: 'a lake' }, {}, {
      onUpdate: (update) => seen.push(update.status),
      onPartialUpdate: (update, changed) => { seen.push(update.status); changed.forEach((name) => fields.add(name)); },
    });
    assert.equal(task.logs.length, 8);
    for (const status of [3, 4, 5, 6, 7, 9, 10]) assert.ok(seen.includes(status), `saw ${seen}`);
    assert.ok(fields.has('status') && fields.has('logs'));
    assert.equal((await fetch(task.output.image)).headers.get('content-type'), 'image/png');
  },
  async 'run polls'() {
    const seen = [];
    const task = await run('sandbox/slow', { seconds: 0.4, steps: 2 }, {}, {
      stream: false, pollIntervalMs: 30, onUpdate: (update) => seen.push(update.status),
    });
    assert.deepEqual(task.output, { steps: 2, seconds: 0.4 });
    assert.ok(seen.length >= 2);
  },
  async 'polling tells of a failed task'() {
    const error = await failure(run('sandbox/fail', { message: 'no luck' }, {}, { stream: false, pollIntervalMs: 20 }));
    assert.match(error.message, /no luck/);
  },
  async 'fire and forget'() {
    const task = await run('sandbox/slow', { seconds: 0.2, steps: 1 }, {}, { wait: false });
    assert.ok(task.status < sdk.TaskStatusCompleted);
    assert.equal(got(await client.tasks.get(task.id)).id, task.id);
  },
  async 'tasks.run, whose second argument is the input'() {
    const task = await client.tasks.run({ app: 'sandbox/echo' }, { a: 1 });
    assert.deepEqual(task.output, { a: 1 });
    // Written as in the README, the input is not sent at all.
    const error = await failure(client.tasks.run({ app: 'sandbox/echo', input: { a: 1 } }));
    assert.equal(error.statusCode, 400);
  },
  async 'cancel'() {
    const task = await run('sandbox/slow', { seconds: 60 }, {}, { wait: false });
    await client.tasks.cancel(task.id);
    await wait(50);
    assert.equal(got(await client.tasks.get(task.id)).status, sdk.TaskStatusCancelled);
    const late = await failure(client.tasks.cancel(task.id));
    assert.equal(late.statusCode, 409);
    assert.equal(codeOf(late), 'invalid_transition');
  },
  async 'cancel while it streams'() {
    let cancelled;
    const error = await failure(run('sandbox/slow', { seconds: 60, steps: 60 }, {}, {
      onUpdate: (update) => { cancelled ??= client.tasks.cancel(update.id); },
    }));
    await cancelled;
    assert.match(error.message, /cancelled/);
  },
  async 'failed task'() {
    assert.match((await failure(run('sandbox/fail', { message: 'no luck' }))).message, /no luck/);
  },
  async 'deltas'() {
    const given = { text: 'one two three', chunk_ms: 20 };
    const words = [];
    const numbers = [];
    const task = await run('sandbox/stream-text', given, {}, {
      onDelta: (delta, seq) => { words.push(delta.response); numbers.push(seq); },
    });
    assert.deepEqual([words, numbers], [['one', ' two', ' three'], [1, 2, 3]]);
    assert.equal(task.output.response, 'one two three');
  },
  async 'reset in the stream rejects'() {
    breakNext({ kind: 'rst_after', lines: 2 }, 'GET', '/stream');
    await failure(run('sandbox/slow', { seconds: 0.5, steps: 2 }));
  },
  async 'upload of a data URI, base64 and a Blob'() {
    for (const source of [DATA_URI, PNG.toString('base64'), new Blob([PNG], { type: 'image/png' })]) {
      const file = await client.files.upload(source, { filename: 'dot.png', contentType: 'image/png' });
      const { output } = await run('sandbox/picture-info', { image: file.uri });
      assert.deepEqual([output.width, output.bytes], [2, PNG.length]);
      assert.equal(got(await client.files.get(file.id)).size, PNG.length);
    }
  },
  async 'files inside inputs'() {
    const task = await run('sandbox/echo', { deep: [{ image: new Blob([PNG], { type: 'image/png' }) }], text: DATA_URI });
    assert.match(task.output.deep[0].image, /^http/);
    assert.match(task.output.text, /^http/);
  },
  async 'files list and delete'() {
    const file = await client.files.upload(DATA_URI, { filename: 'gone.png' });
    assert.equal(got(await client.files.list({ limit: 1 })).items[0].id, file.id);
    await client.files.delete(file.id);
    assert.equal((await failure(client.files.get(file.id))).statusCode, 404);
  },
  async 'tasks list'() {
    await run('sandbox/echo', { n: 1 });
    const page = got(await client.tasks.list({ limit: 1, filters: [{ field: 'status', operator: 'eq', value: 10 }] }));
    assert.equal(page.items.length, 1);
    const next = got(await client.tasks.list({ limit: 1, cursor: page.next_cursor }));
    assert.notEqual(next.items[0].id, page.items[0].id);
  },
  async 'logs and timings'() {
    const { id } = await run('sandbox/slow', { seconds: 0.1, steps: 2 });
    assert.deepEqual(got(await client.tasks.getLogs(id)).logs.map((log) => log.content), ['step 1/2', 'step 2/2']);
    assert.ok(got(await client.tasks.getTimings(id)).total_duration_ms >= 100);
  },
  async 'server-sent events'() {
    const task = await run('sandbox/slow', { seconds: 0.3, steps: 2 }, {}, { wait: false });
    const source = await client.tasks.stream(task.id);
    const seen = [];
    await new Promise((resolve, reject) => {
      source.onerror = reject;
      source.onmessage = (event) => {
        const told = JSON.parse(event.data);
        seen.push(told);
        if (told.status === sdk.TaskStatusCompleted) resolve();
      };
    });
    source.close();
    assert.deepEqual(seen.at(-1).output, { steps: 2, seconds: 0.3 });
    assert.ok(seen.some((told) => told.fields?.includes('logs')));
  },
  async 'a poll that fails rejects'() {
    breakNext({ kind: 'status', code: 500 }, 'GET', '/status');
    const error = await failure(run('sandbox/slow', { seconds: 0.3 }, {}, { stream: false, pollIntervalMs: 30 }));
    assert.match(error.message, /500/);
  },
  async 'apps list, get and versions'() {
    const found = got(await client.apps.list({ search: { term: 'draw', exact: false } }));
    const app = got(await client.apps.get(found.items[0].id));
    assert.equal(app.version.input_schema.properties.prompt.type, 'string');
    assert.equal(got(await client.apps.listVersions(app.id)).items[0].id, app.version_id);
    assert.equal(got(await client.apps.getByName('sandbox/draw')).id, app.id);
  },
  async 'a wrong key'() {
    const stranger = sdk.inference({ apiKey: 'nobody', baseUrl: url });
    assert.equal((await failure(stranger.run({ app: 'sandbox/echo', input: {} }))).statusCode, 401);
  },
  async 'requirements that are not met'() {
    const error = await failure(run('sandbox/needs-secret', {}));
    assert.ok(sdk.isRequirementsNotMetException(error));
    assert.deepEqual(error.errors.map((one) => one.action.type), ['add_secret', 'connect', 'add_scopes']);
  },
  async 'a wrong input'() {
    const error = await failure(run('sandbox/draw', { prompt: 'x', width: 9999 }));
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /input\.width/);
  },
  async 'an unknown app'() {
    const error = await failure(run('sandbox/drow', {}));
    assert.equal(error.statusCode, 404);
    assert.ok(JSON.parse(error.responseBody).suggestions.includes('sandbox/draw'));
  },
  async 'an answer that is not JSON'() {
    breakNext({ kind: 'status', code: 502, body: '<html>Bad Gateway</html>' });
    const error = await failure(run('sandbox/echo', {}));
    assert.equal(error.statusCode, 502);
    assert.match(error.message, /<html>/);
  },
  async 'a session: new, go on, get, list, keepalive, end'() {
    const first = await run('sandbox/count', {}, { session: 'new', session_timeout: 30 });
    const session = first.session_id;
    assert.deepEqual((await run('sandbox/count', {}, { session })).output, { value: 2 });
    const known = got(await client.sessions.get(session));
    assert.deepEqual([known.status, known.call_count, known.idle_timeout], ['active', 2, 30]);
    assert.ok(got(await client.sessions.list()).some((one) => one.id === session));
    assert.ok(got(await client.sessions.keepalive(session)).expires_at >= known.expires_at);
    await client.sessions.end(session);
    const error = await failure(run('sandbox/count', {}, { session }));
    assert.deepEqual([error.statusCode, codeOf(error)], [410, 'SESSION_ENDED']);
  },
  async 'a session expires'() {
    const { session_id: session } = await run('sandbox/count', {}, { session: 'new', session_timeout: 1 });
    await wait(1100);
    const error = await failure(run('sandbox/count', {}, { session }));
    assert.deepEqual([error.statusCode, codeOf(error)], [410, 'SESSION_EXPIRED']);
  },
  async 'session errors: not found, another app, a timeout without new'() {
    const nowhere = await failure(run('sandbox/count', {}, { session: 'nowhere' }));
    assert.deepEqual([nowhere.statusCode, codeOf(nowhere)], [404, 'SESSION_NOT_FOUND']);
    const { session_id: session } = await run('sandbox/count', {}, { session: 'new' });
    const other = await failure(run('sandbox/memory', {}, { session }));
    assert.deepEqual([other.statusCode, codeOf(other)], [409, 'APP_MISMATCH']);
    assert.equal((await failure(run('sandbox/count', {}, { session, session_timeout: 5 }))).statusCode, 400);
  },
  async 'a lost worker'() {
    const { session_id: session } = await run('sandbox/count', {}, { session: 'new' });
    breakNext({ kind: 'lose_worker' });
    assert.match((await failure(run('sandbox/count', {}, { session }))).message, /worker lost/);
    assert.equal((await failure(run('sandbox/count', {}, { session }))).statusCode, 500);
  },
  async 'proxy mode'() {
    const proxy = createServer(proxied).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    try {
      const behind = sdk.inference({ proxyUrl: `http://127.0.0.1:${proxy.address().port}/api/proxy`, baseUrl: url });
      assert.deepEqual((await behind.run({ app: 'sandbox/echo', input: { a: 1 } })).output, { a: 1 });
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  },
};

Object.assign(flows, agentFlows({ sdk, client, url, folder, version, got, failure, codeOf, wait, PNG }));

for (const [code, name] of [[402, 'payment_required'], [403, 'forbidden'], [409, 'conflict'], [422, 'validation_error'],
  [429, 'rate_limited'], [500, 'internal_error'], [503, 'app_maintenance']]) {
  flows[`${code} ${name}`] = async () => {
    breakNext({ kind: 'status', code, error: name });
    const error = await failure(run('sandbox/echo', {}));
    assert.deepEqual([error.statusCode, codeOf(error)], [code, name]);
  };
}

// What the SDK's own server-side handlers do: the key is added here, and the target named by the client is called.
async function proxied(request, response) {
  const target = request.headers['x-inf-target-url'];
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const headers = { authorization: 'Bearer inf_js_proxy' };
  for (const name of ['accept', 'content-type', 'x-api-version']) {
    if (request.headers[name]) headers[name] = request.headers[name];
  }
  const body = chunks.length ? Buffer.concat(chunks) : undefined;
  const answer = await realFetch(target, { method: request.method, headers, body });
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') });
  for await (const piece of answer.body ?? []) response.write(piece);
  response.end();
}

for (const [name, flow] of Object.entries(flows)) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${LIMIT} ms`)), LIMIT); });
  try {
    await Promise.race([flow(), late]);
    console.log(`ok - js ${version}: ${name}`);
  } catch (error) {
    console.log(`not ok - js ${version}: ${name} # ${String(error.stack ?? error).replaceAll('\n', ' | ')}`);
  } finally {
    clearTimeout(timer);
    nextFault = undefined;
  }
}
console.log('# all flows ran');
process.exit(0);
