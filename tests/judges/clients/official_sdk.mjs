// The official SDK 1.10.2: it knows no protocol version after 2024-11-05, and no content type after those.

import assert from 'node:assert/strict';
import { Client } from 'sdk-1.10/client/index.js';
import { StdioClientTransport } from 'sdk-1.10/client/stdio.js';

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: 'old', version: '1' });
await client.connect(new StdioClientTransport({ command, args, stderr: 'ignore' }));
const { tools } = await client.listTools();
const { isError, content } = await client.callTool({ name: 'app_run', arguments: { app: 'sandbox/draw', input: { prompt: 'a kite' } } });
assert.ok(!isError, JSON.stringify(content));
assert.match(content[0].text, /^sandbox\/draw: completed after .* \(task \w{26}\)/);
await client.close();
console.log(`lists ${tools.length} tools, and has the task id of a picture`);
