// Accounts with supabase-js, from sign-up to sign-out, reading the mail that Beacon sends. Addresses must be confirmed.
import { check, connect, data, equal, holds, mail, memory, origin, person, refused, secret, sign, totp } from './stage.mjs'

const landing = `${origin}/landing`
const admin = connect(secret).auth.admin

// Follows a link from a mail as a browser does, up to the application; gives where it leads.
async function follow(link) {
  holds(link?.startsWith(`${origin}/auth/v1/verify?`), `the link in the mail: ${link}`)
  const answer = await fetch(link, { redirect: 'manual' })
  equal(answer.status, 303)
  const place = new URL(answer.headers.get('location'))
  return { place, query: place.searchParams, fragment: new URLSearchParams(place.hash.slice(1)) }
}

// A confirmed person who is signed in with a client of their own.
async function member(options = {}) {
  const who = person()
  const { user } = data(await admin.createUser({ ...who, email_confirm: true, ...options }))
  const client = connect()
  const { session } = data(await client.auth.signInWithPassword(who))
  return { ...who, client, user, session }
}

await check('auth.sign_in.sign_up', 'signing up sends a link, and the link signs in', async () => {
  const [who, client] = [person(), connect()]
  const { user, session } = data(await client.auth.signUp({ ...who, options: { data: { name: 'Ada' }, emailRedirectTo: landing } }))
  equal([session, user.email, user.user_metadata.name, user.email_confirmed_at ?? null], [null, who.email, 'Ada', null])
  refused(await client.auth.signInWithPassword(who), 'email_not_confirmed', 400)
  const { place, fragment } = await follow((await mail(who.email)).link)
  equal([place.origin + place.pathname, fragment.get('type'), fragment.get('token_type')], [landing, 'signup', 'bearer'])
  const signed = data(await client.auth.setSession({ access_token: fragment.get('access_token'), refresh_token: fragment.get('refresh_token') }))
  equal(signed.user.email, who.email)
  data(await connect().auth.signInWithPassword(who))
})
await check('auth.sign_in.sign_up', 'an address that has an account is not given away', async () => {
  const known = await member()
  const [again, fresh] = [await connect().auth.signUp({ email: known.email, password: 'another password' }), await connect().auth.signUp(person())]
  equal(Object.keys(data(again).user).sort(), Object.keys(data(fresh).user).sort(), 'the shape of the answer')
  holds(again.data.user.id !== known.user.id, 'the identifier is made up')
  equal(again.data.user.identities, [])
})
await check('auth.sign_in.sign_up', 'weak passwords and bad addresses are refused', async () => {
  const weak = refused(await connect().auth.signUp({ email: person().email, password: '12345' }), 'weak_password', 422)
  equal([weak.name, weak.reasons], ['AuthWeakPasswordError', ['length']])
  refused(await connect().auth.signUp({ email: 'nobody', password: 'long enough' }), 'validation_failed')
})
await check('auth.sign_in.resend_confirmation', 'the confirmation comes again', async () => {
  const [who, client] = [person(), connect()]
  data(await client.auth.signUp(who))
  const first = await mail(who.email)
  data(await client.auth.resend({ type: 'signup', email: who.email }))
  const second = await mail(who.email)
  holds(first.link !== second.link, 'each mail has a token of its own')
  equal((await follow(second.link)).fragment.get('type'), 'signup')
  equal((await follow(first.link)).fragment.get('error_code'), 'otp_expired', 'the older link')
})
await check('auth.sign_in.sign_in_with_password', 'the right password, the wrong one, and nobody', async () => {
  const { email, password, session, user } = await member()
  equal([session.token_type, session.user.id, session.user.role, session.user.aud], ['bearer', user.id, 'authenticated', 'authenticated'])
  holds(session.expires_in > 0 && session.expires_at > Date.now() / 1000, session)
  const [wrong, nobody] = [await connect().auth.signInWithPassword({ email, password: password + '!' }), await connect().auth.signInWithPassword(person())]
  equal(refused(wrong, 'invalid_credentials', 400).message, refused(nobody, 'invalid_credentials', 400).message)
})
await check('auth.sign_in.sign_in_with_otp auth.sign_in.verify_otp', 'a code from a mail signs in, once', async () => {
  const { email } = person()
  data(await connect().auth.signInWithOtp({ email, options: { data: { name: 'Otto' } } }))
  const first = await mail(email)
  equal((await follow(first.link)).fragment.get('access_token') !== null, true, 'the link confirms a new address')
  data(await connect().auth.signInWithOtp({ email }))
  const { code } = await mail(email)
  const wrong = code === '000000' ? '111111' : '000000'
  refused(await connect().auth.verifyOtp({ email, token: wrong, type: 'email' }), 'otp_expired', 403)
  const { session, user } = data(await connect().auth.verifyOtp({ email, token: code, type: 'email' }))
  equal([user.email, user.user_metadata.name, session.token_type], [email, 'Otto', 'bearer'])
  refused(await connect().auth.verifyOtp({ email, token: code, type: 'email' }), 'otp_expired', 403)
})
await check('auth.sign_in.sign_in_with_otp', 'without making an account, nobody is told', async () => {
  refused(await connect().auth.signInWithOtp({ email: person().email, options: { shouldCreateUser: false } }), 'otp_disabled', 422)
})
await check('auth.sign_in.verify_otp', 'the hash of a token from a generated link', async () => {
  const { email } = await member()
  const { properties } = data(await admin.generateLink({ type: 'magiclink', email }))
  equal(data(await connect().auth.verifyOtp({ token_hash: properties.hashed_token, type: 'email' })).user.email, email)
  refused(await connect().auth.verifyOtp({ token_hash: properties.hashed_token, type: 'email' }), 'otp_expired', 403)
})
await check('auth.sign_in.exchange_code_for_session client.authentication_integration.oauth_flow_type', 'PKCE: a link gives a code, and only its client can use it', async () => {
  const { email } = await member()
  const storage = memory()
  const client = connect(undefined, { auth: { flowType: 'pkce', storage, storageKey: 'pkce' } })
  data(await client.auth.signInWithOtp({ email, options: { emailRedirectTo: landing } }))
  const { place, query } = await follow((await mail(email)).link)
  equal([place.hash, place.pathname], ['', '/landing'])
  const thief = connect(undefined, { auth: { flowType: 'pkce', storage: memory(), storageKey: 'pkce' } })
  await thief.auth.signInWithOtp({ email: person().email })
  refused(await thief.auth.exchangeCodeForSession(query.get('code')), 'bad_code_verifier', 400)
  equal(data(await client.auth.exchangeCodeForSession(query.get('code'))).user.email, email)
  await client.auth.signInWithOtp({ email: person().email })
  refused(await client.auth.exchangeCodeForSession(query.get('code')))
})
await check('auth.sign_in.reset_password', 'a forgotten password', async () => {
  const { email, password } = await member()
  const client = connect()
  data(await client.auth.resetPasswordForEmail(email, { redirectTo: landing }))
  data(await client.auth.resetPasswordForEmail(person().email))
  const { fragment } = await follow((await mail(email)).link)
  equal(fragment.get('type'), 'recovery')
  data(await client.auth.setSession({ access_token: fragment.get('access_token'), refresh_token: fragment.get('refresh_token') }))
  data(await client.auth.updateUser({ password: 'a better password' }))
  refused(await connect().auth.signInWithPassword({ email, password }), 'invalid_credentials')
  data(await connect().auth.signInWithPassword({ email, password: 'a better password' }))
})
await check('auth.sign_in.sign_in_anonymously', 'without an address, and later with one', async () => {
  const client = connect()
  const { user, session } = data(await client.auth.signInAnonymously({ options: { data: { theme: 'dark' } } }))
  equal([user.is_anonymous, user.user_metadata.theme], [true, 'dark'])
  equal(JSON.parse(Buffer.from(session.access_token.split('.')[1], 'base64url')).is_anonymous, true)
  data(await client.from('diary').insert({ line: 'as nobody' }))
  const { email } = person()
  data(await client.auth.updateUser({ email }))
  await follow((await mail(email)).link)
  equal(data(await client.auth.getUser()).user.email, email)
})
await check('auth.sign_in.reauthenticate', 'a code proves who is there', async () => {
  const { client, email } = await member()
  data(await client.auth.reauthenticate())
  const { code } = await mail(email)
  data(await client.auth.updateUser({ password: 'changed with a nonce', nonce: code }))
  data(await connect().auth.signInWithPassword({ email, password: 'changed with a nonce' }))
})
await check('auth.session.get_session client.session_management.persist_session client.session_management.custom_storage', 'a session is kept where the application says', async () => {
  const { email, password } = await member()
  const storage = memory()
  data(await connect(undefined, { auth: { storage, storageKey: 'kept' } }).auth.signInWithPassword({ email, password }))
  equal([...storage.items.keys()], ['kept'])
  const later = connect(undefined, { auth: { storage, storageKey: 'kept' } })
  equal(data(await later.auth.getSession()).session.user.email, email)
  data(await later.from('diary').insert({ line: 'later' }))
})
await check('auth.session.set_session', 'tokens are handed over', async () => {
  const { session, email } = await member()
  equal(data(await connect().auth.setSession(session)).user.email, email)
})
await check('auth.session.refresh_session', 'refreshing gives new tokens, and a stolen old one ends everything', async () => {
  const { client, session } = await member()
  const next = data(await client.auth.refreshSession()).session
  holds(next.refresh_token !== session.refresh_token, 'the token rotates')
  const parent = data(await connect().auth.refreshSession({ refresh_token: session.refresh_token })).session
  equal(parent.refresh_token, next.refresh_token, 'two tabs at once: the same token')
  const third = data(await connect().auth.refreshSession({ refresh_token: next.refresh_token })).session
  data(await connect().auth.refreshSession({ refresh_token: third.refresh_token }))
  refused(await connect().auth.refreshSession({ refresh_token: 'no such token' }), 'refresh_token_not_found', 400)
})
await check('auth.session.auto_refresh', 'a session that has expired is refreshed by itself', async () => {
  const { client, session, email } = await member()
  const stale = connect()
  data(await stale.auth.setSession({ access_token: session.access_token, refresh_token: session.refresh_token }))
  await client.auth.startAutoRefresh()
  await client.auth.stopAutoRefresh()
  const expired = sign({ ...JSON.parse(Buffer.from(session.access_token.split('.')[1], 'base64url')), exp: 1_700_000_000 })
  equal(data(await connect().auth.setSession({ access_token: expired, refresh_token: session.refresh_token })).user.email, email)
})
await check('auth.session.get_user', 'who is signed in, and nobody with a bad token', async () => {
  const { client, email } = await member()
  equal(data(await client.auth.getUser()).user.email, email)
  refused(await connect().auth.getUser('not.a.token'), 'bad_jwt', 403)
})
await check('auth.session.get_claims', "the token's claims, checked", async () => {
  const { client, email, user } = await member()
  const { claims } = data(await client.auth.getClaims())
  equal([claims.email, claims.sub, claims.role, claims.aal, claims.aud], [email, user.id, 'authenticated', 'aal1', 'authenticated'])
  equal(claims.amr[0].method, 'password')
  equal(claims.iss, `${origin}/auth/v1`)
})
await check('auth.session.update_user', 'metadata and a password', async () => {
  const { client, email, password } = await member()
  equal(data(await client.auth.updateUser({ data: { a: 1, b: 2 } })).user.user_metadata.a, 1)
  const { user } = data(await client.auth.updateUser({ data: { b: null, c: 3 } }))
  equal([user.user_metadata.a, user.user_metadata.b ?? null, user.user_metadata.c], [1, null, 3])
  refused(await client.auth.updateUser({ password }), 'same_password', 422)
  data(await client.auth.updateUser({ password: 'quite another' }))
  data(await connect().auth.signInWithPassword({ email, password: 'quite another' }))
})
await check('auth.session.update_user', 'a new address is confirmed by both', async () => {
  const { client, email } = await member()
  const next = person().email
  equal(data(await client.auth.updateUser({ email: next }, { emailRedirectTo: landing })).user.new_email, next)
  await follow((await mail(email)).link)
  equal(data(await client.auth.getUser()).user.email, email, 'after one of two')
  await follow((await mail(next)).link)
  equal(data(await client.auth.getUser()).user.email, next)
})
await check('auth.session.sign_out', 'here, elsewhere, everywhere', async () => {
  const { email, password, client, session } = await member()
  const other = connect()
  data(await other.auth.signInWithPassword({ email, password }))
  equal((await client.auth.signOut({ scope: 'others' })).error, null)
  refused(await other.auth.refreshSession(), 'refresh_token_not_found')
  data(await client.auth.getUser())
  equal((await client.auth.signOut({ scope: 'local' })).error, null)
  // The client's own error for the code session_not_found.
  equal(refused(await connect().auth.getUser(session.access_token)).name, 'AuthSessionMissingError')
  equal(data(await client.auth.getSession()).session, null)
})
await check('auth.session.subscribe_auth_events client.authentication_integration.cross_client_token_sync', 'events tell of sign-in and sign-out', async () => {
  const { email, password } = await member()
  const [client, events] = [connect(), []]
  const { subscription } = client.auth.onAuthStateChange(event => void events.push(event)).data
  data(await client.auth.signInWithPassword({ email, password }))
  data(await client.auth.refreshSession())
  data(await client.from('diary').insert({ line: 'with the token of the session' }))
  await client.auth.signOut()
  subscription.unsubscribe()
  equal(events.filter(event => event !== 'INITIAL_SESSION'), ['SIGNED_IN', 'TOKEN_REFRESHED', 'SIGNED_OUT'])
})
await check('client.authentication_integration.session_url_detection', 'the tokens of a link are those of a session', async () => {
  const { email } = await member()
  data(await connect().auth.signInWithOtp({ email, options: { emailRedirectTo: landing } }))
  const { fragment } = await follow((await mail(email)).link)
  for (const part of ['access_token', 'expires_at', 'expires_in', 'refresh_token', 'token_type', 'type']) holds(fragment.get(part), part)
})
await check('auth.identities.list_identities', 'how somebody signs in', async () => {
  const { client, email } = await member()
  const { identities } = data(await client.auth.getUserIdentities())
  equal(identities.map(one => [one.provider, one.identity_data.email]), [['email', email]])
})

await check('auth.mfa.enroll auth.mfa.challenge auth.mfa.verify', 'an authenticator is enrolled and raises the level', async () => {
  const { client } = await member()
  const factor = data(await client.auth.mfa.enroll({ factorType: 'totp', friendlyName: 'phone' }))
  holds(factor.totp.qr_code.startsWith('data:image/svg+xml') && factor.totp.uri.startsWith('otpauth://totp/'), factor.totp)
  const { id } = data(await client.auth.mfa.challenge({ factorId: factor.id }))
  refused(await client.auth.mfa.verify({ factorId: factor.id, challengeId: id, code: '000000' }), 'mfa_verification_failed', 422)
  const session = data(await client.auth.mfa.verify({ factorId: factor.id, challengeId: id, code: totp(factor.totp.secret) }))
  equal(JSON.parse(Buffer.from(session.access_token.split('.')[1], 'base64url')).aal, 'aal2')
})
await check('auth.mfa.challenge_and_verify auth.mfa.get_authenticator_assurance_level auth.mfa.list_factors auth.mfa.unenroll', 'the second factor at the next sign-in', async () => {
  const { client, email, password } = await member()
  const factor = data(await client.auth.mfa.enroll({ factorType: 'totp' }))
  data(await client.auth.mfa.challengeAndVerify({ factorId: factor.id, code: totp(factor.totp.secret) }))
  const next = connect()
  data(await next.auth.signInWithPassword({ email, password }))
  const level = data(await next.auth.mfa.getAuthenticatorAssuranceLevel())
  equal([level.currentLevel, level.nextLevel], ['aal1', 'aal2'])
  refused(await next.auth.mfa.unenroll({ factorId: factor.id }), 'insufficient_aal')
  data(await next.auth.mfa.challengeAndVerify({ factorId: factor.id, code: totp(factor.totp.secret, 1) }))
  equal(data(await next.auth.mfa.listFactors()).totp.map(one => one.status), ['verified'])
  data(await next.auth.mfa.unenroll({ factorId: factor.id }))
  equal(data(await next.auth.mfa.listFactors()).all, [])
})

await check('auth.admin.create_user auth.admin.get_user', 'an account is made, and read', async () => {
  const who = person()
  const { user } = data(await admin.createUser({ ...who, email_confirm: true, user_metadata: { a: 1 }, app_metadata: { plan: 'large' } }))
  const read = data(await admin.getUserById(user.id)).user
  equal([read.email, read.user_metadata.a, read.app_metadata.plan, read.app_metadata.provider], [who.email, 1, 'large', 'email'])
  refused(await admin.createUser(who), 'email_exists', 422)
  refused(await admin.getUserById('83fd9e20-7a80-46e4-bf29-a86e3d6bbf66'), 'user_not_found', 404)
})
await check('auth.admin.create_user', 'with a hash from elsewhere', async () => {
  const { email } = person()
  // "password", as bcrypt and as Django keep it.
  data(await admin.createUser({ email, email_confirm: true, password_hash: '$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy' }))
  refused(await connect().auth.signInWithPassword({ email, password: 'wrong one' }), 'invalid_credentials')
})
await check('auth.admin.list_users', 'page by page', async () => {
  for (let count = 0; count < 3; count++) data(await admin.createUser(person()))
  const page = data(await admin.listUsers({ page: 1, perPage: 2 }))
  equal([page.users.length, page.nextPage, page.total >= 3, page.aud], [2, 2, true, 'authenticated'])
})
await check('auth.admin.update_user', 'everything about somebody, and a ban', async () => {
  const { user, email } = await member()
  const changed = data(await admin.updateUserById(user.id, { password: 'set by an admin', user_metadata: { vip: true }, app_metadata: { roles: ['editor'] } })).user
  equal([changed.user_metadata.vip, changed.app_metadata.roles], [true, ['editor']])
  const client = connect()
  data(await client.auth.signInWithPassword({ email, password: 'set by an admin' }))
  data(await admin.updateUserById(user.id, { ban_duration: '24h' }))
  refused(await connect().auth.signInWithPassword({ email, password: 'set by an admin' }), 'user_banned', 400)
  refused(await client.auth.refreshSession(), 'user_banned')
  data(await admin.updateUserById(user.id, { ban_duration: 'none' }))
  data(await connect().auth.signInWithPassword({ email, password: 'set by an admin' }))
})
await check('auth.admin.delete_user', 'for good, or softly', async () => {
  const [gone, soft] = [await member(), await member()]
  data(await gone.client.from('diary').insert({ line: 'goes with its owner' }))
  data(await admin.deleteUser(gone.user.id))
  refused(await admin.getUserById(gone.user.id), 'user_not_found', 404)
  refused(await gone.client.auth.getUser())
  data(await admin.deleteUser(soft.user.id, true))
  refused(await connect().auth.signInWithPassword({ email: soft.email, password: soft.password }), 'invalid_credentials')
})
await check('auth.admin.invite_user', 'an invitation by mail', async () => {
  const { email } = person()
  holds(data(await admin.inviteUserByEmail(email, { data: { team: 'a' }, redirectTo: landing })).user.invited_at, 'invited_at')
  const { fragment } = await follow((await mail(email)).link)
  equal(fragment.get('type'), 'invite')
})
await check('auth.admin.generate_link', 'links of every kind, without mail', async () => {
  const { email } = await member()
  for (const type of ['magiclink', 'recovery']) {
    const { properties } = data(await admin.generateLink({ type, email, options: { redirectTo: landing } }))
    equal([properties.verification_type, properties.redirect_to], [type, landing])
    holds((await follow(properties.action_link)).fragment.get('access_token'), type)
  }
  const fresh = person()
  const { user, properties } = data(await admin.generateLink({ type: 'signup', ...fresh, options: { data: { a: 1 } } }))
  equal([user.email, user.user_metadata.a, properties.email_otp.length], [fresh.email, 1, 6])
  data(await connect().auth.verifyOtp({ email: fresh.email, token: properties.email_otp, type: 'signup' }))
  equal(data(await admin.generateLink({ type: 'email_change_current', email, newEmail: person().email })).properties.verification_type, 'email_change_current')
})
await check('auth.admin.sign_out', 'somebody is signed out by their token', async () => {
  const { session } = await member()
  equal((await admin.signOut(session.access_token)).error, null)
  // The client's own error for the code session_not_found.
  equal(refused(await connect().auth.getUser(session.access_token)).name, 'AuthSessionMissingError')
})
await check('auth.admin.list_mfa_factors auth.admin.delete_mfa_factor', 'a lost authenticator is removed', async () => {
  const { client, user } = await member()
  const factor = data(await client.auth.mfa.enroll({ factorType: 'totp' }))
  equal(data(await admin.mfa.listFactors({ userId: user.id })).factors.map(one => one.id), [factor.id])
  data(await admin.mfa.deleteFactor({ userId: user.id, id: factor.id }))
  equal(data(await admin.mfa.listFactors({ userId: user.id })).factors, [])
})
await check('auth.admin.list_users', 'only with a secret key', async () => {
  const { session } = await member()
  refused(await connect().auth.admin.listUsers(), 'not_admin', 403)
  refused(await connect(session.access_token).auth.admin.listUsers(), 'not_admin', 403)
})
await check('client.authentication_integration.third_party_auth', "an application's own tokens", async () => {
  const sub = data(await admin.createUser(person())).user.id
  const token = sign({ sub, role: 'authenticated', aud: 'authenticated', exp: Math.floor(Date.now() / 1000) + 60 })
  const client = connect(undefined, { auth: undefined, accessToken: async () => token })
  equal(data(await client.rpc('who')), { role: 'authenticated', uid: sub, claim: 'authenticated' })
})

await check('auth.sign_in.sign_in_with_otp', 'what Beacon does not have says so', async () => {
  refused(await connect().auth.signInWithOtp({ phone: '+15555551212' }), 'phone_provider_disabled', 400)
  refused(await connect().auth.signInWithSSO({ domain: 'example.org', options: { skipBrowserRedirect: true } }), 'saml_provider_disabled', 404)
  refused(await connect().auth.signInWithWeb3({ chain: 'solana', message: 'a', signature: new Uint8Array([1]) }), 'web3_provider_disabled')
})
