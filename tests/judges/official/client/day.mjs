// A working day of the official MCP client, unmodified, through pinned tools. Run by ../run.py, over every way in at once.
//
// Having listed the tools, the client holds every answer against its tool's schema, and fails where one does not fit.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { CLIENT_FOLDER: folder, WAYS } = process.env;
const dist = (file) => pathToFileURL(join(folder, 'node_modules/@modelcontextprotocol/client/dist', file)).href;
const { Client, StreamableHTTPClientTransport } = await import(dist('index.mjs'));
const { StdioClientTransport } = await import(dist('stdio.mjs'));
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const transport = ({ url, key, server }) => url
  ? new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${key}` } } })
  : new StdioClientTransport({ ...server, stderr: 'inherit' });

async function day(way) {
  const client = new Client({ name: 'day', version: '1' }, way.era === '2026' ? { versionNegotiation: { mode: 'auto' } } : {});
  await client.connect(transport(way));
  assert.match(client.getNegotiatedProtocolVersion(), way.era === '2026' ? /^2026-/ : /^2025-/);
  const call = async (name, args = {}, options) => {
    const result = await client.callTool({ name, arguments: args }, options);
    assert.ok(result.content[0].text);
    return { ...result.structuredContent, failed: result.isError ?? false };
  };
  const run = (app, input, more = {}) => call('app_run', { app, input, ...more });

  const { tools } = await client.listTools();
  const own = Object.fromEntries(tools.map((tool) => [tool.name, tool]));
  assert.ok(own['picture-info'].inputSchema.properties.image);
  assert.ok(own.count.outputSchema.properties.output);

  const uri = await uploaded(way, call);
  const seen = await call('picture-info', { image: uri });
  assert.deepEqual([seen.status, seen.output.width, seen.output.height], ['completed', 120, 80]);

  assert.equal((await call('count', { step: 5 })).output.value, 5);
  assert.equal((await call('count', { step: '5' })).output.value, 5);  // as hosts that can only send text do
  const first = await run('sandbox/count', { step: 1 }, { session: 'new', session_timeout: 2 });
  const values = [first.output.value];
  for (let turn = 0; turn < 2; turn += 1) {
    values.push((await run('sandbox/count', { step: 1 }, { session: first.session_id })).output.value);
  }
  assert.deepEqual(values, [1, 2, 3]);

  const heard = [];
  const handed = await call('slow', { seconds: 1.5, steps: 3 }, { onprogress: (told) => heard.push(told.message) });
  assert.match(handed.next, /task_get\(task_id="/);
  assert.ok(heard.some((message) => message.includes(handed.task_id)), heard.join('\n'));
  const done = await call('task_get', { task_id: handed.task_id, wait_seconds: 20 });
  assert.deepEqual([done.status, done.output.steps], ['completed', 3]);

  const wrong = await call('picture-info', { imag: uri });
  assert.deepEqual([wrong.failed, wrong.error.code, wrong.error.outcome], [true, 'invalid_input', 'not_started']);
  const failed = await call('slow', { seconds: 0, steps: 1, fail_at: 1 });
  assert.deepEqual([failed.failed, failed.error.code], [true, 'task_failed']);

  await wait(2100);
  assert.equal((await run('sandbox/count', {}, { session: first.session_id })).error.code, 'session_expired');

  if (!way.url) assert.ok((await call('file_save', { task_ids: [seen.task_id], to: way.name })).files[0].path);
  const { files } = await call('file_list');
  assert.ok(files.some((file) => file.uri === uri));
  for (const file of files) await call('file_delete', { file: file.file_id });
  assert.deepEqual((await call('file_list')).files, []);
  await client.close();
}

async function uploaded(way, call) {
  if (!way.url) return (await call('file_upload', { source: way.picture })).uri;
  const ticket = await call('file_upload', { filename: 'holiday.png', content_type: 'image/png' });
  const sent = await fetch(ticket.upload_url, { method: 'PUT', headers: ticket.headers, body: await readFile(way.picture) });
  assert.ok(sent.ok);
  return ticket.uri;
}

await Promise.all(JSON.parse(WAYS).map(async (way) => {
  try {
    await day(way);
    console.log(`ok - mcp client: ${way.name}: a working day through pinned tools`);
  } catch (error) {
    console.log(`not ok - mcp client: ${way.name}: a working day through pinned tools # ${String(error.stack).replaceAll('\n', ' | ')}`);
  }
}));
console.log('# all flows ran');
process.exit(0);
