// What the journeys share: clients for Beacon, and `check`, which prints one line of JSON for each case.
import { createHmac, randomUUID } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual, inspect } from 'node:util'

// The packages are in a folder of their own, outside of the sources.
const require = createRequire(pathToFileURL(process.env.BEACON_MODULES + '/'))
const { createClient } = require('@supabase/supabase-js')
const ws = require('ws')

export const origin = process.env.BEACON_ORIGIN
export const publishable = process.env.BEACON_PUBLISHABLE
export const secret = process.env.BEACON_SECRET
export const jwtSecret = process.env.BEACON_JWT_SECRET

// A client with a memory of its own. Node before 22 has no WebSocket, and the client wants one even when it is not used.
export const connect = (key = publishable, { auth, ...options } = {}) =>
  createClient(origin, key, {
    auth: { autoRefreshToken: false, storage: memory(), storageKey: randomUUID(), detectSessionInUrl: false, ...auth },
    realtime: { transport: ws },
    ...options,
  })

export const memory = () => {
  const items = new Map()
  return { items, getItem: key => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value), removeItem: key => void items.delete(key) }
}

export async function check(ids, name, body) {
  let error = null
  try {
    await body()
  } catch (thrown) {
    error = thrown?.message ?? String(thrown)
  }
  process.stdout.write(JSON.stringify({ ids: ids.split(' '), name, ok: error === null, error }) + '\n')
}

export function equal(got, wanted, what = 'the value') {
  if (!isDeepStrictEqual(got, wanted)) throw new Error(`${what} is ${inspect(got, { depth: 8 })}, not ${inspect(wanted, { depth: 8 })}`)
}

export function holds(condition, what) {
  if (!condition) throw new Error(typeof what === 'string' ? what : inspect(what, { depth: 8 }))
}

// The data of an answer without an error.
export function data(answer) {
  if (answer.error) throw new Error(`${answer.status ?? answer.error.status ?? ''} ${answer.error.code ?? ''} ${answer.error.message} ${answer.error.details ?? ''}`)
  return answer.data
}

// The error of an answer, which must have this code and status.
export function refused(answer, code, status) {
  if (!answer.error) throw new Error(`no error, but ${inspect(answer.data, { depth: 8 })}`)
  if (code) equal(answer.error.code, code, `the code of "${answer.error.message}"`)
  if (status) equal(answer.status ?? answer.error.status, status, `the status of "${answer.error.message}"`)
  return answer.error
}

export const person = () => ({ email: `${randomUUID().slice(0, 8)}@example.org`, password: `pass-${randomUUID()}` })

// The next mail to an address.
export async function mail(address) {
  const answer = await fetch(`${process.env.BEACON_MAILBOX}/take/${encodeURIComponent(address)}`)
  const found = await answer.json()
  if (!answer.ok) throw new Error(found.error)
  const body = found.text || found.html
  const link = body.match(/https?:\/\/[^\s"'<>]+verify[^\s"'<>]*/)?.[0].replaceAll('&amp;', '&')
  const code = body.match(/(?<![0-9A-Za-z])\d{6}(?![0-9A-Za-z])/)?.[0]
  return { ...found, link, code }
}

// A JWT with these claims and HS256, as an application signs them that shares the secret.
export function sign(claims, key = jwtSecret, header = { alg: 'HS256', typ: 'JWT' }) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url')
  const text = `${part(header)}.${part(claims)}`
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`
}

// The code that an authenticator shows (RFC 6238), `steps` of 30 seconds from now.
export function totp(base32, steps = 0) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
  const bits = [...base32.replace(/=+$/, '')].map(letter => alphabet.indexOf(letter).toString(2).padStart(5, '0')).join('')
  const key = Buffer.from(bits.match(/.{8}/g).map(byte => parseInt(byte, 2)))
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps))
  const mac = createHmac('sha1', key).update(counter).digest()
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0')
}
