"""Reading and writing rows with supabase from PyPI."""

from postgrest.exceptions import APIError

from stage import SECRET, check, connect, equal, refused

client = connect()


def ids(query):
    return [row["id"] for row in query.execute().data]


def instruments(columns="id"):
    return client.table("instruments").select(columns).order("id")


@check("database.query.from_table database.query.select database.using_modifiers.order", "a table is read")
def _():
    rows = client.table("orchestras").select("*").order("id", desc=True).execute().data
    equal(rows[0], {"id": 3, "name": "Empty", "city": None})


@check("database.query.select", "counts")
def _():
    answer = client.table("players").select("*", count="exact").limit(2).execute()
    equal((answer.count, len(answer.data)), (5, 2))
    equal(client.table("players").select("*", count="exact", head=True).execute().count, 5)


@check("database.using_filters.eq database.using_filters.neq database.using_filters.gt database.using_filters.gte", "comparisons")
def _():
    equal(ids(instruments().eq("name", 'harp, "concert"')), [5])
    equal(ids(instruments().neq("section", "strings")), [3, 4])
    equal(ids(instruments().gt("id", 3)), [4, 5])
    equal(ids(instruments().gte("id", 3).lt("id", 5).lte("id", 4)), [3, 4])


@check("database.using_filters.like database.using_filters.ilike database.using_filters.like_any", "patterns")
def _():
    equal(ids(instruments().like("name", "vio%")), [1])
    equal(ids(instruments().ilike("name", "VIO%")), [1])
    equal(ids(instruments().like_any_of("name", "v%,f%")), [1, 4])
    equal(ids(instruments().ilike_all_of("name", "%L%,%O%")), [1, 2])


@check("database.using_filters.in database.using_filters.is database.using_filters.not", "lists and nulls")
def _():
    equal(ids(instruments().in_("name", ["violin", 'harp, "concert"'])), [1, 5])
    equal(ids(instruments().is_("details", None)), [4])
    equal(ids(instruments().not_.is_("details", None)), [1, 2, 3, 5])


@check("database.using_filters.contains database.using_filters.contained_by database.using_filters.overlaps", "arrays, JSON and ranges")
def _():
    equal(ids(instruments().contains("tags", ["bowed", "large"])), [2])
    equal(ids(instruments().contains("details", {"valves": 3})), [3])
    equal(ids(instruments().contained_by("tags", ["loud", "soft"])), [3, 4])
    equal(ids(instruments().overlaps("tags", ["small", "loud"])), [1, 3])
    equal(ids(instruments().range_adjacent("made", (1749, 1800))), [2, 3])


@check("database.using_filters.or database.using_filters.match database.using_filters.raw", "several at once")
def _():
    equal(ids(instruments().or_("id.eq.4,and(section.eq.strings,tags.not.cs.{bowed})")), [4, 5])
    equal(ids(instruments().match({"section": "strings", "name": "cello"})), [2])
    equal(ids(instruments().filter("details->clef->>name", "eq", "bass")), [2])


@check("database.using_filters.text_search", "text search")
def _():
    equal([row["id"] for row in client.table("instruments").select("id").text_search("words", "fat & cat", {"config": "english"}).execute().data], [1])


@check("database.using_modifiers.limit database.using_modifiers.range", "pages")
def _():
    equal(ids(client.table("players").select("id").order("id").limit(2)), [1, 2])
    equal(ids(client.table("players").select("id").order("id").range(1, 2)), [2, 3])


@check("database.using_modifiers.single_row database.using_modifiers.maybe_single_row", "one row")
def _():
    equal(client.table("players").select("name").eq("id", 1).single().execute().data, {"name": "Ada"})
    equal(client.table("players").select("name").eq("id", 99).maybe_single().execute(), None)
    refused(APIError, client.table("players").select("name").single().execute, "PGRST116")


@check("database.using_modifiers.format_csv database.using_modifiers.explain", "other forms")
def _():
    equal(client.table("orchestras").select("id,name").order("id").csv().execute().data, "id,name\n1,Town\n2,Gown\n3,Empty")
    assert "cost=" in str(client.table("players").select("id").explain().execute())


@check("database.using_modifiers.relationship_embed", "embedded rows")
def _():
    rows = client.table("orchestras").select("name,players(name,instruments(name))").eq("id", 2).order("id", foreign_table="players").execute().data
    equal(rows, [{"name": "Gown", "players": [{"name": "Ada", "instruments": {"name": "violin"}}, {"name": "Cleo", "instruments": {"name": "cello"}}]}])


@check("database.mutate.insert database.mutate.upsert database.mutate.update database.mutate.delete", "rows are written")
def _():
    table = client.table("scratch")
    equal(table.insert({"id": 900, "name": "py"}).execute().data[0]["amount"], 1.5)
    equal([row["amount"] for row in table.insert([{"id": 901}, {"id": 902, "amount": 4}], default_to_null=False).execute().data], [1.5, 4])
    equal(table.upsert({"name": "py", "amount": 7}, on_conflict="name").execute().data[0]["id"], 900)
    equal(table.upsert({"id": 900, "name": "no"}, ignore_duplicates=True).execute().data, [])
    equal(table.update({"amount": 8}).in_("id", [901, 902]).execute().data[1]["amount"], 8)
    equal(len(table.delete().gte("id", 900).execute().data), 3)
    refused(APIError, table.insert({"id": "ten"}).execute, "22P02")


@check("database.query.rpc", "functions")
def _():
    equal(client.rpc("add", {"a": 1, "b": 2}).execute().data, 3)
    equal(client.rpc("add", {"a": 1}, get=True).execute().data, 11)
    equal([row["id"] for row in client.rpc("find_players", {"part": "e"}).execute().data], [2, 3, 5])
    refused(APIError, client.rpc("refuse", {"reason": "no tea"}).execute, "PT418")


@check("database.query.schema_selection client.request_configuration.global_headers", "another schema, and headers")
def _():
    equal(client.schema("archive").table("concerts").select("title").eq("id", 1).execute().data, [{"title": "Opening"}])
    marked = connect(headers={"x-mark": "seen"})
    assert '"seen"' in marked.rpc("request_setting", {"name": "request.headers"}).execute().data


@check("database.query.rpc", "a secret key")
def _():
    equal(connect(SECRET).rpc("who").execute().data["role"], "service_role")
