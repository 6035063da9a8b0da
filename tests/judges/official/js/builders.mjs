// What the tool builders of the official JS SDK print, for a tool of every kind: the same cases as ../python_builders.py.

export const built = (sdk) => {
  const { tool, appTool, agentTool, httpTool, callTool, webhookTool, mcpTool, internalTools } = sdk;
  const { string, number, integer, boolean, enumOf, array, object, optional } = sdk;
  const where = object({ lat: number('Lat'), lon: optional(number()) }, 'Place');
  return {
    client: tool('get_weather').displayName('Weather').describe('Get weather').requireApproval()
      .param('city', string('City')).param('days', optional(integer('How many')))
      .param('unit', enumOf(['c', 'f'], 'Unit')).param('where', where)
      .param('tags', array(string('Tag'), 'Tags')).param('exact', boolean()).build(),
    'client, bare': tool('now').build(),
    'client, all optional inside': tool('find').param('by', object({ name: optional(string()) })).build(),
    'client, array of objects': tool('add').param('rows', array(object({ n: integer(), s: optional(string()) }))).build(),
    'client, with its handler': tool('echo').param('text', string()).handler(async ({ text }) => text).schema,
    app: appTool('img', 'infsh/flux@abc').describe('d').function('run').sessionEnabled()
      .setup({ model: 's' }).input({ steps: 4 }).build(),
    'app, param has no effect': appTool('img', 'infsh/flux').param('prompt', string()).requireApproval().build(),
    agent: agentTool('expert', 'my/expert@latest').describe('d').build(),
    'http, connection': httpTool('gmail', 'https://x.example/send')
      .auth({ integration: 'google', integrationId: 'i1' }).param('to', string()).build(),
    'http, key': httpTool('fetch', 'https://x.example').method('GET').auth({ apiKey: 'K' })
      .header('Accept', 'application/json').build(),
    'http, key in a header of its own': httpTool('fetch', 'https://x.example').auth({ apiKey: 'K', header: 'X-Mine' }).build(),
    'http, bearer': httpTool('fetch', 'https://x.example').auth({ bearer: 'T' }).build(),
    'http, bare': httpTool('fetch', 'https://x.example').build(),
    call: callTool('fetch', 'https://x.example').method('DELETE').build(),
    webhook: webhookTool('w', 'https://x.example').secret('S').param('a', string('A')).build(),
    'webhook, bare': webhookTool('w', 'https://x.example').build(),
    mcp: mcpTool('n', 'int1', 'search').describe('d').param('q', string()).build(),
    'internal, one': internalTools().memory().build(),
    'internal, one off': internalTools().plan(false).meta().build(),
    'internal, all': internalTools().all().build(),
    'internal, none': internalTools().none().build(),
  };
};
