// Signing in with somebody else's account: an OpenID Connect provider runs in this process, and Beacon talks to it.
import { generateKeyPairSync, randomUUID, sign as signature } from 'node:crypto'
import { createServer } from 'node:http'
import { check, connect, data, equal, holds, memory, origin, person, refused, secret } from './stage.mjs'

const port = Number(process.env.BEACON_PROVIDER_PORT)
const issuer = `http://127.0.0.1:${port}`
const landing = `${origin}/landing`
const admin = connect(secret).auth.admin

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg: 'RS256' }
const idToken = (claims, key = privateKey) => {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const text = `${part({ alg: 'RS256', kid: 'one' })}.${part({ iss: issuer, aud: 'beacon', iat: now, exp: now + 300, ...claims })}`
  return `${text}.${signature('RSA-SHA256', Buffer.from(text), key).toString('base64url')}`
}

// Who is at the provider's screen; what the provider was asked; codes that it gave.
let somebody = null
let asked = null
const codes = new Map()

const provider = createServer(async (request, response) => {
  const url = new URL(request.url, issuer)
  const send = (status, value, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(value && JSON.stringify(value))
  let body = ''
  for await (const piece of request) body += piece
  switch (url.pathname) {
    case '/.well-known/openid-configuration':
      return send(200, {
        issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, userinfo_endpoint: `${issuer}/userinfo`, jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['RS256'],
      })
    case '/jwks':
      return send(200, { keys: [jwk] })
    case '/authorize': {
      asked = url.searchParams
      const back = new URL(asked.get('redirect_uri'))
      if (somebody === 'refuses') back.search = new URLSearchParams({ error: 'access_denied', error_description: 'no', state: asked.get('state') })
      else {
        const code = randomUUID()
        codes.set(code, { ...somebody, nonce: asked.get('nonce') ?? undefined })
        back.search = new URLSearchParams({ code, state: asked.get('state') })
      }
      return send(302, null, { location: back.href })
    }
    case '/token': {
      const claims = codes.get(new URLSearchParams(body).get('code'))
      codes.clear()
      return claims ? send(200, { access_token: 'an-access-token', token_type: 'bearer', expires_in: 300, refresh_token: 'a-refresh-token', id_token: idToken(claims) }) : send(400, { error: 'invalid_grant' })
    }
    case '/userinfo':
      return send(200, somebody)
    default:
      return send(404, {})
  }
})
await new Promise(done => provider.listen(port, '127.0.0.1', done))

// What a browser does from Beacon's address to the application's.
async function browse(url) {
  for (let hop = 0; hop < 5; hop++) {
    const answer = await fetch(url, { redirect: 'manual' })
    holds([302, 303].includes(answer.status), `${url} answers ${answer.status} ${await answer.text()}`)
    url = new URL(answer.headers.get('location'), url).href
    if (url.startsWith(landing)) return new URL(url)
  }
  throw new Error(`it goes round: ${url}`)
}

const guest = () => ({ sub: randomUUID(), email: person().email, email_verified: true, name: 'Gustav', picture: 'https://example.org/g.png' })

await check('auth.sign_in.sign_in_with_oauth', 'the whole way there and back', async () => {
  somebody = guest()
  const client = connect()
  const { url } = data(await client.auth.signInWithOAuth({ provider: 'town', options: { redirectTo: landing, scopes: 'profile', skipBrowserRedirect: true } }))
  const place = await browse(url)
  equal([asked.get('client_id'), asked.get('response_type'), asked.get('scope').includes('openid')], ['beacon', 'code', true])
  holds(asked.get('state') && asked.get('redirect_uri') === `${origin}/auth/v1/callback`, asked.get('redirect_uri'))
  const fragment = new URLSearchParams(place.hash.slice(1))
  equal([fragment.get('provider_token'), fragment.get('provider_refresh_token')], ['an-access-token', 'a-refresh-token'])
  const { user } = data(await client.auth.setSession({ access_token: fragment.get('access_token'), refresh_token: fragment.get('refresh_token') }))
  equal([user.email, user.app_metadata.provider, user.user_metadata.name], [somebody.email, 'town', 'Gustav'])
  equal(user.identities.map(one => [one.provider, one.id]), [['town', somebody.sub]])
})
await check('auth.sign_in.sign_in_with_oauth auth.sign_in.exchange_code_for_session client.authentication_integration.oauth_flow_type', 'with PKCE, and the same person again', async () => {
  somebody = guest()
  const ids = []
  for (let time = 0; time < 2; time++) {
    const client = connect(undefined, { auth: { flowType: 'pkce', storage: memory(), storageKey: 'pkce' } })
    const { url } = data(await client.auth.signInWithOAuth({ provider: 'town', options: { redirectTo: `${landing}?page=2`, skipBrowserRedirect: true } }))
    const place = await browse(url)
    equal([place.hash, place.searchParams.get('page')], ['', '2'])
    const { user, session } = data(await client.auth.exchangeCodeForSession(place.searchParams.get('code')))
    equal(session.provider_token, 'an-access-token')
    ids.push(user.id)
  }
  equal(ids[0], ids[1])
})
await check('auth.sign_in.sign_in_with_oauth', 'an account with the same confirmed address is the same account', async () => {
  const who = person()
  const { user } = data(await admin.createUser({ ...who, email_confirm: true }))
  somebody = { ...guest(), email: who.email }
  const client = connect()
  const place = await browse(data(await client.auth.signInWithOAuth({ provider: 'town', options: { redirectTo: landing, skipBrowserRedirect: true } })).url)
  const fragment = new URLSearchParams(place.hash.slice(1))
  const signed = data(await client.auth.setSession({ access_token: fragment.get('access_token'), refresh_token: fragment.get('refresh_token') })).user
  equal([signed.id, signed.app_metadata.providers], [user.id, ['email', 'town']])
})
await check('auth.sign_in.sign_in_with_oauth', 'an address that the provider has not confirmed takes over nothing', async () => {
  const who = person()
  const { user } = data(await admin.createUser({ ...who, email_confirm: true }))
  somebody = { ...guest(), email: who.email, email_verified: false }
  const place = await browse(data(await connect().auth.signInWithOAuth({ provider: 'town', options: { redirectTo: landing, skipBrowserRedirect: true } })).url)
  const fragment = new URLSearchParams(place.hash.slice(1))
  if (fragment.get('access_token')) holds(JSON.parse(Buffer.from(fragment.get('access_token').split('.')[1], 'base64url')).sub !== user.id, 'it took over an account')
  else holds(fragment.get('error'), place.href)
  equal(data(await admin.getUserById(user.id)).user.identities.length, 1)
})
await check('auth.sign_in.sign_in_with_oauth', 'a refusal, a forged state and an unknown provider', async () => {
  somebody = 'refuses'
  const place = await browse(data(await connect().auth.signInWithOAuth({ provider: 'town', options: { redirectTo: landing, skipBrowserRedirect: true } })).url)
  equal(new URLSearchParams(place.hash.slice(1)).get('error'), 'access_denied')
  const forged = await fetch(`${origin}/auth/v1/callback?code=${randomUUID()}&state=forged`, { redirect: 'manual' })
  holds(forged.status >= 300 && !forged.headers.get('location')?.includes('access_token'), `${forged.status}`)
  const unknown = await fetch(`${origin}/auth/v1/authorize?provider=nobody`, { redirect: 'manual' })
  equal(unknown.status, 400)
})
await check('auth.sign_in.sign_in_with_oauth', 'nobody is sent where the configuration does not say', async () => {
  somebody = guest()
  const { url } = data(await connect().auth.signInWithOAuth({ provider: 'town', options: { redirectTo: 'https://evil.example', skipBrowserRedirect: true } }))
  let next = url
  for (let hop = 0; hop < 4; hop++) {
    const answer = await fetch(next, { redirect: 'manual' })
    next = answer.headers.get('location')
    holds(next && !next.includes('evil.example'), `${next}`)
    if (next.includes('access_token')) break
  }
})
await check('auth.sign_in.sign_in_with_id_token', "a phone's own sign-in", async () => {
  const who = guest()
  const { user } = data(await connect().auth.signInWithIdToken({ provider: 'town', token: idToken(who) }))
  equal([user.email, user.app_metadata.provider], [who.email, 'town'])
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  for (const bad of [idToken(who, other), idToken({ ...who, aud: 'another' }), idToken({ ...who, exp: 1 }), idToken({ ...who, iss: 'https://evil.example' }), idToken({ ...who, nonce: 'secret' })]) {
    refused(await connect().auth.signInWithIdToken({ provider: 'town', token: bad }))
  }
})
await check('auth.identities.link_identity auth.identities.unlink_identity', 'another way to sign in, added and taken away', async () => {
  const who = person()
  data(await admin.createUser({ ...who, email_confirm: true }))
  const client = connect()
  data(await client.auth.signInWithPassword(who))
  somebody = guest()
  await browse(data(await client.auth.linkIdentity({ provider: 'town', options: { redirectTo: landing, skipBrowserRedirect: true } })).url)
  const { identities } = data(await client.auth.getUserIdentities())
  equal(identities.map(one => one.provider).sort(), ['email', 'town'])
  data(await client.auth.unlinkIdentity(identities.find(one => one.provider === 'town')))
  equal(data(await client.auth.getUserIdentities()).identities.map(one => one.provider), ['email'])
  refused(await client.auth.unlinkIdentity(data(await client.auth.getUserIdentities()).identities[0]), 'single_identity_not_deletable', 422)
})

provider.close()
provider.closeAllConnections()
