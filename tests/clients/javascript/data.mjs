// Reading and writing rows with supabase-js: every filter, modifier, embed and write that the client has a method for.
import { check, connect, data, equal, holds, origin, publishable, refused } from './stage.mjs'

const client = connect()
const instruments = (columns = 'id') => client.from('instruments').select(columns).order('id')
const players = (columns = 'id') => client.from('players').select(columns).order('id')
const ids = answer => data(answer).map(row => row.id)

await check('database.query.from_table database.query.select', 'a table is read', async () => {
  equal(data(await client.from('orchestras').select().order('id')), [
    { id: 1, name: 'Town', city: 'Bath' },
    { id: 2, name: 'Gown', city: 'Oxford' },
    { id: 3, name: 'Empty', city: null },
  ])
})
await check('database.query.select', 'columns have aliases, casts and paths', async () => {
  const rows = data(await instruments('title:name,id::text,clef:details->clef->>name,strings:details->strings').limit(2))
  equal(rows, [
    { title: 'violin', id: '1', clef: 'treble', strings: 4 },
    { title: 'cello', id: '2', clef: 'bass', strings: 4 },
  ])
})
await check('database.query.select', 'a computed field is selected, filtered and ordered by', async () => {
  equal(data(await players('id,initial').eq('initial', 'C')), [{ id: 3, initial: 'C' }])
  equal(ids(await client.from('players').select('id').order('initial', { ascending: false }).limit(2)), [5, 4])
})
await check('database.query.select', 'a view is read and embeds by the keys of its table', async () => {
  equal(data(await client.from('string_players').select('name,instruments(name)').order('id').limit(1)), [{ name: 'Ada', instruments: { name: 'violin' } }])
})
await check('database.query.select', 'counts: exact, planned, estimated, and without rows', async () => {
  const exact = await client.from('players').select('*', { count: 'exact' }).limit(2)
  equal([exact.count, exact.status, exact.data.length], [5, 206, 2])
  const head = await client.from('players').select('*', { count: 'exact', head: true }).gt('id', 3)
  equal([head.count, head.data, head.status], [2, null, 200])
  for (const count of ['planned', 'estimated']) holds(Number.isInteger((await client.from('players').select('*', { count, head: true })).count), count)
})
await check('database.query.select', 'what is not there is named, with a hint', async () => {
  const table = refused(await client.from('playerz').select(), 'PGRST205', 404)
  holds(table.hint.includes("'public.players'"), table)
  refused(await client.from('players').select('shoe'), '42703', 400)
  refused(await client.from('players').select('*,concerts(*)'), 'PGRST200', 400)
})
await check('database.query.schema_selection', 'another exposed schema is read, others are refused', async () => {
  equal(data(await client.schema('archive').from('concerts').select('title').order('id')), [{ title: 'Opening' }, { title: 'Closing' }])
  refused(await client.schema('pg_catalog').from('pg_authid').select(), 'PGRST106', 406)
})

await check('database.using_filters.eq', 'eq', async () => equal(ids(await instruments().eq('name', 'cello')), [2]))
await check('database.using_filters.eq', 'eq with commas, quotes and percent signs in the value', async () => {
  equal(ids(await instruments().eq('name', 'harp, "concert"')), [5])
  equal(ids(await instruments().eq('name', '%')), [])
})
await check('database.using_filters.neq', 'neq', async () => equal(ids(await instruments().neq('section', 'strings')), [3, 4]))
await check('database.using_filters.gt', 'gt', async () => equal(ids(await instruments().gt('id', 3)), [4, 5]))
await check('database.using_filters.gte', 'gte', async () => equal(ids(await instruments().gte('id', 3)), [3, 4, 5]))
await check('database.using_filters.lt', 'lt', async () => equal(ids(await instruments().lt('id', 3)), [1, 2]))
await check('database.using_filters.lte', 'lte', async () => equal(ids(await instruments().lte('id', 3)), [1, 2, 3]))
await check('database.using_filters.like', 'like', async () => equal(ids(await instruments().like('name', '%e%l%')), [2]))
await check('database.using_filters.like_all', 'like all of', async () => equal(ids(await instruments().likeAllOf('name', ['%l%', '%o%'])), [1, 2]))
await check('database.using_filters.like_any', 'like any of', async () => equal(ids(await instruments().likeAnyOf('name', ['v%', 'f%'])), [1, 4]))
await check('database.using_filters.ilike', 'ilike', async () => equal(ids(await instruments().ilike('name', 'VIO%')), [1]))
await check('database.using_filters.ilike_all', 'ilike all of', async () => equal(ids(await instruments().ilikeAllOf('name', ['%L%', '%O%'])), [1, 2]))
await check('database.using_filters.ilike_any', 'ilike any of', async () => equal(ids(await instruments().ilikeAnyOf('name', ['V%', 'F%'])), [1, 4]))
await check('database.using_filters.is', 'is null and is not null', async () => {
  equal(ids(await instruments().is('details', null)), [4])
  equal(ids(await instruments().not('details', 'is', null)), [1, 2, 3, 5])
})
await check('database.using_filters.is_distinct', 'is distinct', async () => equal(ids(await players().isDistinct('born', 1999)), [1, 2, 3, 4]))
await check('database.using_filters.in', 'in, with commas and parentheses', async () => {
  const names = ['a, b', '(c)', 'd']
  data(await client.from('scratch').insert(names.map(name => ({ name }))))
  equal(data(await client.from('scratch').delete().in('name', ['a, b', '(c)', 'none']).select('name')).map(row => row.name).sort(), ['(c)', 'a, b'])
  data(await client.from('scratch').delete().eq('name', 'd'))
  equal(ids(await instruments().in('id', [])), [])
})
await check('database.using_filters.not_in', 'not in', async () => equal(ids(await instruments().notIn('id', [1, 2, 3])), [4, 5]))
await check('database.using_filters.contains', 'contains: arrays, ranges, JSON', async () => {
  equal(ids(await instruments().contains('tags', ['bowed', 'large'])), [2])
  equal(ids(await instruments().contains('made', '[1620,1650)')), [1, 2])
  equal(ids(await instruments().contains('details', { clef: { name: 'bass' } })), [2])
})
await check('database.using_filters.contained_by', 'contained by: arrays, ranges, JSON', async () => {
  equal(ids(await instruments().containedBy('tags', ['loud', 'soft'])), [3, 4])
  equal(ids(await instruments().containedBy('made', '[1500,1750)')), [1, 2])
  equal(ids(await instruments().containedBy('details', { valves: 3, mute: true })), [3])
})
await check('database.using_filters.overlaps', 'overlaps: arrays and ranges', async () => {
  equal(ids(await instruments().overlaps('tags', ['small', 'loud'])), [1, 3])
  equal(ids(await instruments().overlaps('made', '[1740,1760)')), [2, 5])
})
await check('database.using_filters.range_gt', 'range right of', async () => equal(ids(await instruments().rangeGt('made', '[1600,1750)')), [3, 5]))
await check('database.using_filters.range_gte', 'range not left of', async () => equal(ids(await instruments().rangeGte('made', '[1600,1750)')), [2, 3, 5]))
await check('database.using_filters.range_lt', 'range left of', async () => equal(ids(await instruments().rangeLt('made', '[1750,1800)')), [1, 2]))
await check('database.using_filters.range_lte', 'range not right of', async () => equal(ids(await instruments().rangeLte('made', '[1750,1800)')), [1, 2, 5]))
await check('database.using_filters.range_adjacent', 'range adjacent', async () => equal(ids(await instruments().rangeAdjacent('made', '[1750,1800)')), [2, 3]))
await check('database.using_filters.match', 'match', async () => equal(ids(await instruments().match({ section: 'strings', name: 'cello' })), [2]))
await check('database.using_filters.not', 'not', async () => equal(ids(await instruments().not('section', 'in', '(strings,brass)')), [4]))
await check('database.using_filters.or', 'or, nested, over several columns', async () => {
  equal(ids(await instruments().or('id.eq.4,and(section.eq.strings,tags.not.cs.{bowed})')), [4, 5])
  equal(ids(await instruments().or('name.eq."harp, \\"concert\\"",details->>valves.eq.3')), [3, 5])
})
await check('database.using_filters.text_search', 'text search: all four forms', async () => {
  equal(ids(await instruments().textSearch('words', 'fat & cat', { config: 'english' })), [1])
  equal(ids(await instruments().textSearch('words', 'cats fat', { type: 'plain', config: 'english' })), [1])
  equal(ids(await instruments().textSearch('words', 'fat cat', { type: 'phrase', config: 'english' })), [1])
  equal(ids(await instruments().textSearch('words', 'fat or van -cat', { type: 'websearch', config: 'english' })), [1, 2, 5])
  equal(ids(await instruments().textSearch('description', 'van', { config: 'english' })), [5], 'a column that is no tsvector')
})
await check('database.using_filters.regex', 'regular expression', async () => equal(ids(await instruments().regexMatch('name', '^(v|f)')), [1, 4]))
await check('database.using_filters.regex_icase', 'regular expression, any case', async () => equal(ids(await instruments().regexIMatch('name', '^(V|F)')), [1, 4]))
await check('database.using_filters.raw', 'any operator by name, on a path', async () => {
  equal(ids(await instruments().filter('details->clef->>name', 'eq', 'bass')), [2])
  equal(ids(await instruments().filter('details->strings', 'gt', 4)), [5])
  refused(await instruments().filter('name', 'sounds_like', 'x'), 'PGRST100', 400)
})

await check('database.using_modifiers.order', 'order by several columns, nulls first and last, paths, and embedded rows', async () => {
  equal(ids(await client.from('players').select('id').order('born', { nullsFirst: true }).order('id')), [4, 1, 2, 3, 5])
  equal(ids(await client.from('players').select('id').order('born', { ascending: false, nullsFirst: false })), [5, 3, 2, 1, 4])
  equal(ids(await client.from('players').select('id,instruments(name)').order('instruments(name)').order('id').limit(3)), [3, 4, 1])
})
await check('database.using_modifiers.limit', 'limit', async () => equal(ids(await players().limit(2)), [1, 2]))
await check('database.using_modifiers.range', 'range, and one beyond the end', async () => {
  equal(ids(await players().range(1, 2)), [2, 3])
  refused(await client.from('players').select('*', { count: 'exact' }).range(50, 60), 'PGRST103', 416)
})
await check('database.using_modifiers.single_row', 'a single row, or an error', async () => {
  equal(data(await players('name').eq('id', 1).single()), { name: 'Ada' })
  refused(await players().single(), 'PGRST116', 406)
})
await check('database.using_modifiers.maybe_single_row', 'a row or none', async () => {
  equal(data(await players().eq('id', 99).maybeSingle()), null)
  equal(data(await players().eq('id', 2).maybeSingle()), { id: 2 })
})
await check('database.using_modifiers.format_csv', 'CSV', async () => equal(data(await instruments('id,name').gt('id', 3).csv()), 'id,name\n4,flute\n5,"harp, ""concert"""'))
await check('database.using_modifiers.strip_nulls', 'nulls are left out', async () => equal(data(await client.from('orchestras').select().eq('id', 3).stripNulls()), [{ id: 3, name: 'Empty' }]))
await check('database.using_modifiers.explain', 'the plan of a query', async () => {
  holds(/cost=/.test(data(await players().explain())), 'text')
  holds(data(await players().explain({ format: 'json', analyze: true }))[0].Plan, 'JSON')
})
await check('database.using_modifiers.request_cancellation', 'a request is given up', async () => {
  const control = new AbortController()
  control.abort()
  refused(await players().abortSignal(control.signal))
  equal(ids(await players().limit(1)), [1], 'afterwards')
})
await check('database.configuration.auto_retry database.configuration.request_timeout', 'a client that retries and has a deadline', async () => {
  const patient = connect(publishable, { db: { timeout: 5000 } })
  equal(ids(await patient.from('players').select('id').eq('id', 1).retry(true)), [1])
})

await check('database.using_modifiers.relationship_embed', 'to one and to many', async () => {
  equal(data(await players('name,instruments(name)').gte('id', 4)), [{ name: 'Dora', instruments: { name: 'trumpet' } }, { name: 'Eve', instruments: null }])
  equal(data(await instruments('name,players(name)').eq('id', 1).order('id', { referencedTable: 'players' })), [{ name: 'violin', players: [{ name: 'Ada' }, { name: 'Ben' }] }])
})
await check('database.using_modifiers.relationship_embed', 'one to one, and many to many', async () => {
  equal(data(await players('id,player_details(biography)').eq('id', 1)), [{ id: 1, player_details: { biography: 'began at four' } }])
  const rows = data(await client.from('orchestras').select('name,players(name)').order('id').order('id', { referencedTable: 'players' }))
  equal(rows.map(row => row.players.map(player => player.name)), [['Ada', 'Ben', 'Dora'], ['Ada', 'Cleo'], []])
})
await check('database.using_modifiers.relationship_embed', 'a table with itself, by column and by function', async () => {
  equal(data(await players('name,mentor:mentor_id(name)').eq('id', 2)), [{ name: 'Ben', mentor: { name: 'Ada' } }])
  equal(data(await players('name,pupils(name)').eq('id', 1).order('id', { referencedTable: 'pupils' })), [{ name: 'Ada', pupils: [{ name: 'Ben' }, { name: 'Cleo' }] }])
})
await check('database.using_modifiers.relationship_embed', 'nested, with filters, order and limits of its own', async () => {
  const rows = data(
    await client.from('orchestras').select('id,memberships(since,players(name,instruments(name)))').eq('id', 1)
      .gt('memberships.since', '2000-06-01').order('since', { referencedTable: 'memberships', ascending: false }).limit(1, { referencedTable: 'memberships' })
  )
  equal(rows, [{ id: 1, memberships: [{ since: '2002-01-01', players: { name: 'Dora', instruments: { name: 'trumpet' } } }] }])
})
await check('database.using_modifiers.relationship_embed', 'inner, anti and spread', async () => {
  const inner = await client.from('players').select('id,instruments!inner(section)', { count: 'exact' }).eq('instruments.section', 'strings').order('id')
  equal([ids(inner), inner.count], [[1, 2, 3], 3])
  equal(ids(await client.from('orchestras').select('id,memberships()').is('memberships', null)), [3])
  equal(data(await players('name,...instruments(instrument:name)').eq('id', 3)), [{ name: 'Cleo', instrument: 'cello' }])
})
await check('database.using_modifiers.relationship_embed', 'or over embedded rows', async () => {
  const rows = data(await client.from('orchestras').select('id,players(id)').eq('id', 1).or('id.eq.1,name.like.D*', { referencedTable: 'players' }).order('id', { referencedTable: 'players' }))
  equal(rows, [{ id: 1, players: [{ id: 1 }, { id: 4 }] }])
})
await check('database.using_modifiers.relationship_embed', 'counts and sums', async () => {
  equal(data(await client.from('orchestras').select('id,players(count)').order('id')).map(row => row.players[0].count), [3, 2, 0])
  equal(data(await client.from('instruments').select('section,id.sum()').order('section')), [
    { section: 'strings', sum: 8 }, { section: 'brass', sum: 3 }, { section: 'wind', sum: 4 },
  ])
})

await check('database.mutate.insert', 'one row, many rows, with defaults', async () => {
  equal((await client.from('scratch').insert({ id: 100, name: 'one' })).status, 201)
  equal(data(await client.from('scratch').insert([{ id: 101, name: 'two', amount: 2 }, { id: 102, name: 'three' }]).select('name,amount').order('name')), [
    { name: 'three', amount: null }, { name: 'two', amount: 2 },
  ])
  const mixed = data(await client.from('scratch').insert([{ id: 103, amount: 3 }, { id: 104 }], { defaultToNull: false }).select('id,amount').order('id'))
  equal(mixed, [{ id: 103, amount: 3 }, { id: 104, amount: 1.5 }])
  equal(data(await client.from('scratch').insert({ id: 105, 'with space': 'x' }).select('"with space"')), [{ 'with space': 'x' }])
  equal((await client.from('scratch').insert([])).status, 201)
})
await check('database.mutate.insert', 'a duplicate, a bad value and an unknown column are refused', async () => {
  refused(await client.from('scratch').insert({ id: 100 }), '23505', 409)
  refused(await client.from('scratch').insert({ id: 'ten' }), '22P02', 400)
  refused(await client.from('scratch').insert({ shoe: 1 }), 'PGRST204', 400)
  refused(await client.from('orchestras').insert({ id: 9, name: 'No policy' }), '42501', 401)
})
await check('database.mutate.insert', 'counts', async () => equal((await client.from('scratch').insert([{ id: 110 }, { id: 111 }], { count: 'exact' })).count, 2))
await check('database.mutate.upsert', 'by the primary key and by another, merged or left alone', async () => {
  equal((await client.from('scratch').upsert({ id: 100, name: 'uno' })).status, 200)
  equal(data(await client.from('scratch').upsert({ name: 'uno', amount: 7 }, { onConflict: 'name' }).select('id,amount')), [{ id: 100, amount: 7 }])
  equal(data(await client.from('scratch').upsert({ id: 100, name: 'ein' }, { ignoreDuplicates: true }).select()), [])
  const both = await client.from('scratch').upsert([{ id: 100, name: 'eins' }, { id: 120, name: 'zwei' }]).select('id')
  equal([both.status, both.data.length], [201, 2])
})
await check('database.mutate.update database.mutate.select_after_mutation', 'rows are changed, and come back with what they refer to', async () => {
  equal(data(await client.from('scratch').update({ amount: 9 }).in('id', [101, 102]).select('id,amount').order('id')), [{ id: 101, amount: 9 }, { id: 102, amount: 9 }])
  const none = await client.from('scratch').update({ amount: 9 }, { count: 'exact' }).eq('id', 999)
  equal([none.status, none.count], [204, 0])
})
await check('database.mutate.delete', 'rows are removed', async () => {
  const gone = await client.from('scratch').delete({ count: 'exact' }).gte('id', 110).select('id').order('id')
  equal([gone.count, ids(gone)], [3, [110, 111, 120]])
})
await check('database.using_modifiers.max_affected_rows', 'too many rows: nothing is done', async () => {
  refused(await client.from('scratch').delete().gte('id', 100).maxAffected(1), 'PGRST124', 400)
  equal((await client.from('scratch').select('*', { count: 'exact', head: true })).count, 6)
  equal(data(await client.from('scratch').delete().eq('id', 105).maxAffected(1).select('id')), [{ id: 105 }])
})
await check('database.using_modifiers.dry_run', 'a write is tried and rolled back', async () => {
  equal(data(await client.from('scratch').insert({ id: 500 }).select('id').rollback()), [{ id: 500 }])
  equal(data(await client.from('scratch').select().eq('id', 500)), [])
})
await check('database.mutate.insert', 'a thousand rows at once', async () => {
  const rows = Array.from({ length: 1000 }, (_, at) => ({ id: 10_000 + at, name: `row ${at}` }))
  equal((await client.from('scratch').insert(rows)).status, 201)
  const page = await client.from('scratch').select('id', { count: 'exact' }).gte('id', 10_000)
  equal([page.count, page.data.length], [1000, 1000])
  await client.from('scratch').delete().gte('id', 10_000)
})

await check('database.query.rpc', 'arguments by name, with defaults, by GET and by POST', async () => {
  equal(data(await client.rpc('add', { a: 1, b: 2 })), 3)
  equal(data(await client.rpc('add', { a: 1 })), 11)
  equal(data(await client.rpc('add', { a: 1, b: 2 }, { get: true })), 3)
})
await check('database.query.rpc', 'rows come back, and are filtered, selected and embedded', async () => {
  equal(data(await client.rpc('find_players', { part: 'e' }).select('id,instruments(name)').lt('id', 5)), [{ id: 2, instruments: { name: 'violin' } }, { id: 3, instruments: { name: 'cello' } }])
  equal((await client.rpc('find_players', { part: 'e' }, { count: 'exact', head: true })).count, 3)
  equal(data(await client.rpc('sections')), [{ section: 'strings', instruments: 3 }, { section: 'brass', instruments: 1 }, { section: 'wind', instruments: 1 }])
})
await check('database.query.rpc', 'a whole body, a row as an argument, and nothing at all', async () => {
  equal(data(await client.rpc('keys_of', { b: 1, a: { c: 2 } })), ['a', 'b'])
  equal(data(await client.rpc('describe', { player: { name: 'Zoe' } })), 'Zoe, ageless')
  const nothing = await client.rpc('nothing')
  equal([nothing.status, nothing.data], [204, null])
  equal(data(await client.rpc('longest', { words: ['a', 'ccc', 'bb'] })), 'ccc')
})
await check('database.query.rpc', 'errors of functions, and functions that are not there', async () => {
  const error = refused(await client.rpc('refuse', { reason: 'no tea' }), 'PT418', 418)
  equal([error.message, error.details, error.hint], ['no tea', 'told to', 'do not ask'])
  const missing = refused(await client.rpc('ad', { a: 1 }), 'PGRST202', 404)
  holds(missing.message.includes('public.ad(a)'), missing)
})
await check('database.query.rpc', 'a function that writes is refused by GET', async () => {
  refused(await client.rpc('write_scratch', { name: 'by get' }, { get: true }), '25006', 405)
  equal(data(await client.rpc('write_scratch', { name: 'by post' }).select('name')), [{ name: 'by post' }])
})

await check('client.request_configuration.global_headers client.observability.trace_propagation', 'headers reach the database', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const marked = connect(publishable, { global: { headers: { 'X-Mark': 'seen', traceparent } } })
  const headers = JSON.parse(data(await marked.rpc('request_setting', { name: 'request.headers' })))
  equal([headers['x-mark'], headers.traceparent], ['seen', traceparent])
  equal(data(await marked.rpc('request_setting', { name: 'request.path' }, { get: true })), '/rpc/request_setting')
})
await check('client.request_configuration.custom_http_client', "requests go through the application's own fetch", async () => {
  const seen = []
  const watched = connect(publishable, { global: { fetch: (url, options) => (seen.push(String(url)), fetch(url, options)) } })
  data(await watched.from('players').select('id').limit(1))
  equal(seen, [`${origin}/rest/v1/players?select=id&limit=1`])
})
