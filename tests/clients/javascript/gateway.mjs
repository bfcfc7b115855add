// Keys, roles and browsers: who a request is, and what a page elsewhere may ask.
import { check, connect, data, equal, holds, origin, person, publishable, refused, secret, sign } from './stage.mjs'

const rest = (path, options) => fetch(`${origin}/rest/v1/${path}`, options)
const soon = () => Math.floor(Date.now() / 1000) + 60

await check('database.query.rpc', 'a publishable key, a secret key, no key, and a token', async () => {
  equal(data(await connect(publishable).rpc('who')).role, 'anon')
  equal(data(await connect(secret).rpc('who')).role, 'service_role')
  equal((await (await rest('rpc/who')).json()).role, 'anon')
  const token = sign({ role: 'authenticated', sub: '00000000-0000-4000-8000-000000000001', aud: 'authenticated', exp: soon() })
  equal((await (await rest('rpc/who', { headers: { apikey: publishable, authorization: `Bearer ${token}` } })).json()).role, 'authenticated')
})
await check('database.query.select', 'keys and tokens that are not good are refused', async () => {
  const status = async headers => (await rest('players?limit=1', { headers })).status
  equal(await status({ apikey: 'sb_publishable_of_somebody_else' }), 401)
  equal(await status({ apikey: publishable, authorization: `Bearer ${sign({ role: 'anon', exp: 1 })}` }), 401)
  equal(await status({ apikey: publishable, authorization: `Bearer ${sign({ role: 'anon', exp: soon() }, 'another secret')}` }), 401)
  equal(await status({ apikey: publishable, authorization: `Bearer ${publishable}` }), 200)
  equal(await status({ apikey: publishable, authorization: 'Bearer sb_secret_of_somebody' }), 401)
  equal(await status({ apikey: publishable, authorization: `Bearer ${sign({ role: 'postgres', exp: soon() })}` }), 403)
})
await check('database.query.select', 'a table without row-level security is not for everybody', async () => {
  const refusal = refused(await connect().from('unprotected').select(), undefined, 401)
  holds(/row-level security/i.test(`${refusal.message} ${refusal.hint}`), refusal)
  equal(data(await connect(secret).from('unprotected').select()), [{ id: 1 }])
})
await check('database.query.select database.mutate.insert', 'a row belongs to whom wrote it', async () => {
  const admin = connect(secret).auth.admin
  const clients = []
  for (const line of ['one', 'two']) {
    const who = person()
    data(await admin.createUser({ ...who, email_confirm: true }))
    const client = connect()
    data(await client.auth.signInWithPassword(who))
    data(await client.from('diary').insert({ line }))
    clients.push(client)
  }
  const lines = async client => data(await client.from('diary').select('line').in('line', ['one', 'two'])).map(row => row.line)
  equal(await lines(clients[0]), ['one'])
  equal(await lines(clients[1]), ['two'])
  equal((await lines(connect(secret))).sort(), ['one', 'two'])
  equal(await lines(connect()), [])
  const owner = data(await clients[0].auth.getUser()).user.id
  refused(await clients[1].from('diary').insert({ line: 'forged', owner }), '42501', 403)
  equal(data(await clients[1].from('diary').update({ line: 'changed' }).eq('line', 'one').select()), [])
})
await check('database.query.select', 'a page elsewhere may ask (CORS)', async () => {
  const asked = 'apikey,authorization,x-client-info,prefer,accept-profile,content-profile,x-supabase-api-version,x-retry-count,traceparent'
  for (const path of ['rest/v1/players', 'auth/v1/token']) {
    const preflight = await fetch(`${origin}/${path}`, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example.org', 'access-control-request-method': 'POST', 'access-control-request-headers': asked },
    })
    holds([200, 204].includes(preflight.status), `${path}: ${preflight.status}`)
    holds(['*', 'https://app.example.org'].includes(preflight.headers.get('access-control-allow-origin')), path)
    const allowed = preflight.headers.get('access-control-allow-headers').toLowerCase().split(/, */)
    for (const name of asked.split(',')) holds(allowed.includes(name) || allowed.includes('*'), `${path} allows ${name}`)
    for (const method of ['GET', 'POST', 'PATCH', 'DELETE']) holds(preflight.headers.get('access-control-allow-methods').includes(method), method)
  }
  const answer = await rest('players?limit=1', { headers: { origin: 'https://app.example.org', apikey: publishable, prefer: 'count=exact' } })
  const exposed = answer.headers.get('access-control-expose-headers').toLowerCase()
  for (const name of ['content-range', 'content-location', 'location', 'preference-applied']) holds(exposed.includes(name), name)
})
await check('database.query.select', 'an error says what and how, in the client\'s form', async () => {
  const answer = await rest('players?id=equals.1', { headers: { apikey: publishable } })
  const body = await answer.json()
  equal([answer.status, Object.keys(body).sort()], [400, ['code', 'details', 'hint', 'message']])
  equal([body.code, answer.headers.get('proxy-status')], ['PGRST100', 'PostgREST; error=PGRST100'])
})
await check('database.query.select', 'the API describes itself', async () => {
  const document = await (await rest('', { headers: { apikey: secret, accept: 'application/openapi+json' } })).json()
  equal(document.swagger, '2.0')
  holds(document.paths['/players']?.get && document.paths['/rpc/add']?.post && document.definitions.players.properties.name, Object.keys(document.paths))
})
await check('auth.sign_in.sign_up', 'the account server describes itself', async () => {
  const settings = await (await fetch(`${origin}/auth/v1/settings`, { headers: { apikey: publishable } })).json()
  equal([settings.external.email, settings.disable_signup, settings.mailer_autoconfirm], [true, false, false])
  const health = await (await fetch(`${origin}/auth/v1/health`)).json()
  holds(health.name && health.version, health)
  const keys = await (await fetch(`${origin}/auth/v1/.well-known/jwks.json`)).json()
  holds(keys.keys.length > 0 && keys.keys.every(key => !key.d && !key.k), keys)
})
