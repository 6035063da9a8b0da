// The MCP client of Vercel's AI SDK: it sends `server/discover`, and after one second `initialize` on the same pipe.

import assert from 'node:assert/strict';
import { createMCPClient } from '@ai-sdk/mcp';
import { Experimental_StdioMCPTransport as StdioTransport } from '@ai-sdk/mcp/mcp-stdio';

const [command, ...args] = process.argv.slice(2);
const late = { command: 'sh', args: ['-c', 'sleep 1.5; exec "$0" "$@"', command, ...args], stderr: 'ignore' };

for (const [start, transport] of Object.entries({ late, 'at once': { command, args, stderr: 'ignore' } })) {
  const client = await createMCPClient({ transport: new StdioTransport(transport) });
  const tools = await client.tools();
  const options = { toolCallId: '1', messages: [] };
  const { isError, content } = await tools.app_run.execute({ app: 'sandbox/draw', input: { prompt: 'a kite' } }, options);
  assert.ok(!isError, JSON.stringify(content));
  assert.match(content[0].text, /^sandbox\/draw: completed after .* \(task \w{26}\)/, `a server that starts ${start}`);
  await client.close();
}
console.log('lists and runs, with a server that starts at once and one that starts 1.5 s late');
