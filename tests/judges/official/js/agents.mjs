// The agents of the official JS SDK, unmodified, through the sandbox. Run by sdk.mjs, among its other flows.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { built } from './builders.mjs';

export const agentFlows = ({ sdk, client, url, folder, version, got, failure, codeOf, wait, PNG }) => {
  const { tool, appTool, string, internalTools } = sdk;
  const WEATHER = tool('get_weather').describe('Get the current weather').param('city', string('City')).build();
  const CLOCK = tool('get_time').describe('Get the current time').build();
  const SCHEMA = {
    type: 'object',
    properties: {
      summary: { type: 'string' },
      sentiment: { type: 'string', enum: ['positive', 'negative', 'neutral'] },
      confidence: { type: 'number' },
    },
    required: ['summary', 'sentiment', 'confidence'],
  };
  const person = sdk.inference({ apiKey: `inf_person_js_${version}`, baseUrl: url });
  const textOf = (message) => message.content.find((part) => part.type === 'text')?.text;

  const talker = (config, options) => {
    const agent = client.agents.create(config, options);
    // Send a message and listen until the turn is over; every client tool is answered with `result`.
    const say = async (text, more = {}, result) => {
      const heard = { messages: [], deltas: [], calls: [], chats: [] };
      await agent.sendMessage(text, {
        ...more,
        onMessage: (message) => { heard.messages.push(message); more.onMessage?.(message); },
        onDelta: (delta) => heard.deltas.push(delta),
        onChat: (chat) => { heard.chats.push(chat); more.onChat?.(chat); },
        onToolCall: async (call) => { heard.calls.push(call); await agent.submitToolResult(call.id, result); },
      });
      agent.disconnect();
      heard.text = textOf(heard.messages.filter((message) => message.role === 'assistant').at(-1));
      return heard;
    };
    return { agent, say };
  };
  const idle = async (agent) => {
    for (;;) {
      const chat = await agent.getChat();
      if (chat.status === 'idle') return chat;
      await wait(20);
    }
  };
  const waiting = async (agent) => {
    for (;;) {
      const chat = await agent.getChat();
      if (chat.status === 'awaiting_input') return chat;
      await wait(20);
    }
  };
  const said = (chat) => textOf(chat.chat_messages.at(-1));
  const adHoc = (...tools) => ({ core_app: { ref: 'sandbox/llm' }, system_prompt: 'Be brief.', tools });

  const flows = {
    async 'agents list, get, by name, versions, internal tools'() {
      const { items } = got(await client.agents.list({ search: { term: 'assistant', exact: false } }));
      const agent = got(await client.agents.get(items[0].id));
      assert.equal(got(await client.agents.getByName('sandbox', 'assistant')).id, agent.id);
      const versions = got(await client.agents.listVersions(agent.id)).items;
      assert.equal(versions[0].id, agent.version_id);
      assert.equal(got(await client.agents.getVersion(agent.id, versions[1].id)).id, versions[1].id);
      assert.ok(got(await client.agents.getInternalTools()).some((one) => one.name === 'finish'));
    },
    async 'agent: template, several turns'() {
      const { agent, say } = talker('sandbox/assistant@latest');
      assert.match((await say('my name is Ada')).text, /^Hello Ada\./);
      const chat = agent.currentChatId;
      assert.equal((await say('what is my name?')).text, 'Your name is Ada.');
      assert.equal(agent.currentChatId, chat);
      assert.equal((await agent.getChat()).chat_messages.length, 4);
    },
    async 'agent: ad hoc, through client.agent'() {
      const agent = client.agent(adHoc());
      const seen = [];
      await agent.sendMessage('hello', { onMessage: (message) => seen.push(message) });
      agent.disconnect();
      assert.match(textOf(seen.at(-1)), /You said: 'hello'/);
    },
    async 'agent: no waiting without callbacks'() {
      const { agent } = talker('sandbox/assistant');
      const { assistantMessage, userMessage } = await agent.sendMessage('hello');
      assert.deepEqual([assistantMessage.status, userMessage.role], ['pending', 'user']);
      assert.equal((await idle(agent)).chat_messages.at(-1).id, assistantMessage.id);
    },
    async 'agent: deltas'() {
      const heard = await talker('sandbox/assistant').say('count to 5');
      assert.deepEqual(heard.deltas.map((one) => one.seq), [1, 2, 3, 4, 5]);
      assert.equal(heard.deltas.at(-1).output.response, '1 2 3 4 5');
      assert.equal(heard.text, '1 2 3 4 5');
    },
    async 'agent: polling, several turns'() {
      const { say } = talker('sandbox/assistant');
      const polled = { stream: false, pollIntervalMs: 30 };
      assert.match((await say('my name is Bo', polled)).text, /^Hello Bo\./);
      assert.equal((await say('what is my name?', polled)).text, 'Your name is Bo.');
    },
    async 'agent: startStreaming in mid-answer'() {
      const { agent } = talker('sandbox/assistant');
      await agent.sendMessage('count to 6 slowly');
      await wait(900);
      const seen = { messages: [], deltas: [] };
      agent.startStreaming({ onMessage: (one) => seen.messages.push(one), onDelta: (one) => seen.deltas.push(one) });
      await idle(agent);
      await wait(30);
      agent.disconnect();
      assert.equal(seen.deltas.at(-1).output.response, '1 2 3 4 5 6');
      assert.equal(textOf(seen.messages.at(-1)), '1 2 3 4 5 6');
    },
    async 'agent: stopChat'() {
      const { agent } = talker('sandbox/assistant');
      await agent.stopChat();
      const chats = [];
      const turn = agent.sendMessage('count to 1000 slowly', { onChat: (chat) => chats.push(chat) });
      await wait(300);
      await agent.stopChat();
      await turn;
      agent.disconnect();
      assert.equal((await agent.getChat()).active_run.state, 'canceled');
    },
    async 'agent: a signal lets go of the turn'() {
      const { agent } = talker('sandbox/hanging');
      const error = await failure(agent.sendMessage('x', { onChat: () => {}, signal: AbortSignal.timeout(300) }));
      assert.equal(error.name, 'TimeoutError');
      await agent.stopChat();
    },
    async 'agent: reset'() {
      const { agent, say } = talker('sandbox/assistant');
      await say('my name is Ada');
      const before = agent.currentChatId;
      agent.reset();
      assert.equal(agent.currentChatId, null);
      assert.match((await say('what is my name?')).text, /not told/);
      assert.equal((await agent.getChat(before)).id, before);
    },
    async 'agent: context counts at the start'() {
      assert.match((await talker('sandbox/assistant', { context: { team: 'blue' } }).say('the context?')).text, /team = blue/);
    },
    async 'agent: files by upload and by reuse'() {
      const uploaded = await client.files.upload(new Blob([PNG], { type: 'image/png' }), { filename: 'photo.png' });
      const { say } = talker('sandbox/assistant');
      const heard = await say('look', { files: [new Blob([PNG], { type: 'image/png' }), uploaded, new Blob(['hi'], { type: 'text/plain' })] });
      assert.equal(heard.text.match(/a png of 2x1/g).length, 2);
      assert.match(heard.text, /photo\.png: image\/png/);
      assert.match(heard.text, /2 bytes/);
    },
    async 'agent: structured output'() {
      const config = { ...adHoc(), output_schema: SCHEMA, internal_tools: internalTools().finish().build() };
      const output = await client.agents.create(config).run('Analyze: a negative review', { pollIntervalMs: 30 });
      assert.equal(output.sentiment, 'negative');
      assert.deepEqual(Object.keys(output), SCHEMA.required);
      const none = await client.agents.create({ ...adHoc(), output_schema: SCHEMA }).run('Analyze', { pollIntervalMs: 30 });
      assert.equal(none, null);
    },
    async 'agent: failed and refused'() {
      const heard = await talker('sandbox/failing').say('try');
      assert.equal(heard.messages.at(-1).status, 'failed');
      assert.ok(sdk.isRequirementsNotMetException(await failure(talker('sandbox/locked').say('x'))));
      const error = await failure(talker('sandbox/assistent').say('x'));
      assert.deepEqual([error.statusCode, codeOf(error)], [404, 'not_found']);
      assert.ok(JSON.parse(error.responseBody).suggestions.includes('sandbox/assistant'));
    },
    async 'agent: an approval needs the person'() {
      const { agent } = talker('sandbox/approver');
      await agent.sendMessage('a lake');
      const [pending] = (await waiting(agent)).pending_interrupts;
      const error = await failure(client.agents.resolveInterrupt(pending.id, 'allow'));
      assert.deepEqual([error.statusCode, codeOf(error)], [403, 'requires_sign_in']);
      assert.equal(got(await person.agents.resolveInterrupt(pending.id, 'allow')).resolution, 'allow');
      const chat = await idle(agent);
      assert.equal(chat.chat_messages[1].tool_invocations[0].status, 'completed');
      assert.equal(got(await client.agents.listRunInterrupts(chat.active_run.id))[0].status, 'resolved');
      assert.equal((await failure(person.agents.resolveInterrupt(pending.id, 'deny'))).statusCode, 409);
    },
    async 'agent: an approval denied'() {
      const { agent } = talker(adHoc(appTool('draw', 'sandbox/draw').requireApproval().build()));
      await agent.sendMessage('draw a lake');
      const [pending] = (await waiting(agent)).pending_interrupts;
      await person.agents.resolveInterrupt(pending.id, 'deny');
      assert.equal(said(await idle(agent)), 'draw was not used: rejected.');
    },
    async 'agent: a turn with an approval in it'() {
      const { say } = talker('sandbox/approver');
      let decided;
      const heard = await say('a lake', {
        onChat: (chat) => {
          const pending = chat.pending_interrupts?.[0];
          if (pending && !decided) decided = person.agents.resolveInterrupt(pending.id, 'allow');
        },
      });
      await decided;
      assert.match(heard.text, /^Here is the picture: http/);
    },
    async 'agent: a widget'() {
      for (const [text, field] of [['show a form', 'children'], ['show a surface', 'components']]) {
        const { agent, say } = talker('sandbox/desk');
        let sent;
        const heard = await say(text, {
          onMessage: (message) => {
            const shown = message.tool_invocations?.find((one) => one.widget && one.status === 'awaiting_input');
            if (!shown || sent) return;
            assert.ok(Array.isArray(shown.widget[field]));
            sent = agent.submitToolResult(shown.id, { action: { type: 'submit' }, form_data: { name: 'Ada' } });
          },
        });
        await sent;
        assert.equal(said(await agent.getChat()), 'You chose submit with name = Ada.');
        assert.equal(heard.text, 'You chose submit with name = Ada.');
      }
    },
    async 'chats: list, get, update, status, trace, delete'() {
      const { agent, say } = talker('sandbox/desk');
      await say('delegate: count to 3');
      const id = agent.currentChatId;
      assert.equal(got(await client.chats.list({ limit: 1 })).items[0].id, id);
      assert.equal(got(await client.chats.update(id, { name: 'Mine' })).name, 'Mine');
      assert.equal(got(await client.chats.getStatus(id)).status, 'idle');
      assert.equal(got(await client.chats.getTrace(id)).runs.length, 1);
      assert.equal(got(await client.chats.get(id)).children.length, 1);
      await client.chats.delete(id);
      assert.equal((await failure(client.chats.get(id))).statusCode, 404);
    },
    async 'chats: a queued message, taken back and not'() {
      const { agent } = talker('sandbox/assistant');
      await agent.sendMessage('count to 3 slowly');
      const { userMessage: never } = await agent.sendMessage('never mind');
      const { userMessage: then } = await agent.sendMessage('my name is Cy');
      assert.deepEqual([never.status, then.status], ['queued', 'queued']);
      await client.chats.cancelMessage(never.id);
      const chat = await idle(agent);
      assert.equal(chat.chat_messages.filter((one) => one.status === 'cancelled').length, 2);
      assert.match(said(chat), /^Hello Cy/);
    },
    async 'the React half: open, say, page, decide'() {
      const half = await import(pathToFileURL(join(folder, 'node_modules/@inferencesh/sdk/dist/agent/api.js')).href);
      const { chatId, userMessage } = await half.sendMessage(client, { agent: 'sandbox/approver' }, null, 'a lake');
      assert.equal(userMessage.role, 'user');
      const chat = async () => half.fetchChat(client, chatId);
      const until = async (status) => { while ((await chat()).status !== status) await wait(20); return chat(); };
      const call = (await until('awaiting_input')).chat_messages[1].tool_invocations[0];
      assert.equal((await failure(half.rejectTool(client, call.id, 'no'))).statusCode, 403);
      await half.alwaysAllowTool(person, chatId, call.id, 'draw');
      assert.deepEqual((await until('idle')).agent_data.always_allowed_tools, ['draw']);
      await half.sendMessage(client, { agent: 'sandbox/approver' }, chatId, 'another lake');
      await until('idle');
      assert.equal((await half.fetchMessages(client, chatId, { limit: 2 })).length, 2);
      assert.match((await half.fetchAgentInfo(client, 'sandbox/approver')).description, /sandbox/);
    },
    async 'tool builder'() {
      const expected = JSON.parse(await readFile(new URL('../builders.json', import.meta.url), 'utf8'));
      const made = built(sdk);
      assert.deepEqual(Object.keys(made), Object.keys(expected));
      for (const [name, schema] of Object.entries(made)) {
        assert.equal(JSON.stringify(schema), JSON.stringify(expected[name].js), name);
      }
    },
  };
  for (const [way, more] of [['streaming', {}], ['polling', { stream: false, pollIntervalMs: 30 }]]) {
    flows[`agent: client tools once each, ${way}`] = async () => {
      const { say } = talker(adHoc(WEATHER, CLOCK));
      const heard = await say('Tell me the weather in Oslo, and the time', more, 'fine');
      assert.deepEqual(heard.calls.map((call) => call.name), ['get_weather', 'get_time']);
      assert.deepEqual(heard.calls[0].args, { city: 'Oslo' });
      assert.equal(heard.text, 'get_weather says: fine get_time says: fine');
    };
  }
  return flows;
};
