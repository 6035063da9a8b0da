// LangChain's MCP tools, bound to its Gemini model: the conversion refuses schemas that Gemini's API would refuse.

import assert from 'node:assert/strict';
import { MultiServerMCPClient } from '@langchain/mcp-adapters';
import { ChatGoogleGenerativeAI } from '@langchain/google-genai';

const [command, ...args] = process.argv.slice(2);
const client = new MultiServerMCPClient({ inference: { transport: 'stdio', command, args, stderr: 'ignore' } });
const tools = await client.getTools();
const model = new ChatGoogleGenerativeAI({ apiKey: 'not-used', model: 'gemini-2.5-flash' });

model.bindTools(tools);
const declared = model.invocationParams({ tools }).tools.flatMap((tool) => tool.functionDeclarations);
assert.deepEqual(declared.map(({ name }) => name).sort(), tools.map(({ name }) => name).sort());
const enums = [...JSON.stringify(declared).matchAll(/"enum":\[[^\]]*\]/g)].map(([text]) => text);
assert.ok(enums.length > 0);
assert.deepEqual(enums.filter((text) => text.includes('""')), [], 'Gemini\'s API refuses an empty value in an enum');

const draw = tools.find(({ name }) => name === 'draw');
const answer = await draw.invoke({ prompt: 'a kite', seed: 7 });
assert.match(JSON.stringify(answer), /sandbox\/draw: completed after .* \(task \w{26}\)/);
await client.close();
console.log(`binds ${declared.length} tools, and runs a pinned app`);
