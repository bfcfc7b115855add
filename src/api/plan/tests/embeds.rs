//! Related rows: every kind of relationship, nesting, inner and null filters, spreads, order and limits.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::{Bench, Error, Failure, JSON, Target, Work, name, plan};
use crate::api::plan::tree::DEEPEST;
use crate::api::query::{Embed, Item, Level};
use crate::api::schema::{Catalog, ForeignKey, Join, Relation, RelationKind, Relationship};

#[tokio::test]
async fn every_relationship() {
    let bench = Bench::new().await;
    for (relation, text, expected) in [
        (
            "films",
            "select=id,directors(name)&id=in.(1,4)&order=id",
            json!([{"id":1,"directors":{"name":"Ann"}},{"id":4,"directors":null}]),
        ),
        ("films", "select=id,by:director_id(name)&id=eq.1", json!([{"id":1,"by":{"name":"Ann"}}])),
        (
            "directors",
            "select=id,films(id)&films.order=id&order=id",
            json!([{"id":1,"films":[{"id":1},{"id":2}]},{"id":2,"films":[{"id":3}]},{"id":3,"films":[]}]),
        ),
        (
            "films",
            "select=id,actors(name)&actors.order=name.desc&id=lt.3&order=id",
            json!([{"id":1,"actors":[{"name":"Yul"},{"name":"Xena"}]},{"id":2,"actors":[{"name":"Xena"}]}]),
        ),
        ("actors", "select=name,films(title)&id=eq.2", json!([{"name":"Yul","films":[{"title":"Alpha"}]}])),
        (
            "films",
            "select=id,nominations(prize)&id=lt.3&order=id",
            json!([{"id":1,"nominations":{"prize":"gold"}},{"id":2,"nominations":null}]),
        ),
        ("nominations", "select=prize,films(title)", json!([{"prize":"gold","films":{"title":"Alpha"}}])),
        (
            "people",
            "select=name,people(name)&people.order=name&id=eq.1",
            json!([{"name":"root","people":[{"name":"left"},{"name":"right"}]}]),
        ),
        (
            "people",
            "select=name,boss:boss_id(name,boss_id(name))&id=eq.4",
            json!([{"name":"leaf","boss":{"name":"left","boss_id":{"name":"root"}}}]),
        ),
        (
            "people",
            "select=name,people(name,people(name))&people.order=id&id=eq.1",
            json!([{"name":"root","people":[{"name":"left","people":[{"name":"leaf"}]},{"name":"right","people":[]}]}]),
        ),
        ("films", "select=id,peers(id)&id=eq.1", json!([{"id":1,"peers":[{"id":2}]}])),
        (
            "films",
            "select=id,boss(name)&id=in.(1,4)&order=id",
            json!([{"id":1,"boss":{"name":"Ann"}},{"id":4,"boss":null}]),
        ),
        (
            "films",
            "select=id,boss(films(id))&boss.films.order=id&id=eq.1",
            json!([{"id":1,"boss":{"films":[{"id":1},{"id":2}]}}]),
        ),
        ("film_titles", "select=title,directors(name)&id=eq.1", json!([{"title":"Alpha","directors":{"name":"Ann"}}])),
        (
            "directors",
            "select=name,film_titles(title)&film_titles.order=title&id=eq.1",
            json!([{"name":"Ann","film_titles":[{"title":"Alpha"},{"title":"Beta"}]}]),
        ),
        (
            "roles",
            "select=character,film_titles(title)&film_titles.title=eq.Alpha&order=character",
            json!([{"character":"aunt","film_titles":null},{"character":"cat","film_titles":null},{"character":"hero","film_titles":{"title":"Alpha"}},{"character":"villain","film_titles":{"title":"Alpha"}}]),
        ),
        (
            "directors",
            "select=name,films(title,roles(character,actors(name)))&films.id=eq.2&id=eq.1",
            json!([{"name":"Ann","films":[{"title":"Beta","roles":[{"character":"aunt","actors":{"name":"Xena"}}]}]}]),
        ),
        ("films", "select=directors(*),id&id=eq.1", json!([{"directors":{"id":1,"name":"Ann","born":1950},"id":1}])),
        ("films", "select=id,directors()&id=eq.1", json!([{"id":1}])),
        (
            "films",
            "select=id,a:directors(name),b:directors(id)&id=eq.1",
            json!([{"id":1,"a":{"name":"Ann"},"b":{"id":1}}]),
        ),
        (
            "films",
            "select=id,directors(shout:name,films(shout))&directors.films.id=eq.2&id=eq.1",
            json!([{"id":1,"directors":{"shout":"Ann","films":[{"shout":"BETA"}]}}]),
        ),
    ] {
        assert_eq!(bench.get(relation, text).await, expected, "{relation}?{text}");
    }
    // Rows whose columns are all NULL are rows.
    assert_eq!(
        bench.get("films", "select=directors(born)&id=eq.1&directors.id=eq.1").await,
        json!([{"directors":{"born":1950}}])
    );
    assert_eq!(bench.get("directors", "select=films(y:deleted)&id=eq.2").await, json!([{"films":[{"y":null}]}]));
}

#[tokio::test]
async fn inner_and_null_filters() {
    let bench = Bench::new().await;
    for (relation, text, expected) in [
        ("films", "select=id,directors!inner(name)", vec![1, 2, 3]),
        ("films", "select=id,directors!inner()&directors.name=eq.Bob", vec![3]),
        ("directors", "select=id,films!inner(id)", vec![1, 2]),
        ("directors", "select=id,films!inner(id)&films.year=gt.1999", vec![2]),
        ("films", "select=id,actors!inner(name)&actors.name=eq.Xena", vec![1, 2]),
        ("directors", "select=id,films!inner(actors!inner(name))&films.actors.name=eq.Zoe", vec![2]),
        ("directors", "select=id,films!inner(actors(name))&films.actors.name=eq.Zoe", vec![1, 2]),
        ("films", "select=id,boss!inner(name)&boss.name=eq.Ann", vec![1, 2]),
        ("films", "select=id,peers!inner(id)", vec![1, 2]),
        ("film_titles", "select=id,directors!inner(name)&directors.name=eq.Bob", vec![3]),
        ("films", "select=id,directors()&directors=is.null", vec![4]),
        ("films", "select=id,directors()&directors=not.is.null", vec![1, 2, 3]),
        ("directors", "select=id,films()&films=is.null", vec![3]),
        ("directors", "select=id,f:films()&f=is.null&f.id=eq.3", vec![1, 3]),
        (
            "films",
            "select=id,actors(name),directors(name)&actors.name=eq.Xena&directors.name=eq.Bob&or=(actors.not.is.null,directors.not.is.null)",
            vec![1, 2, 3],
        ),
        ("films", "select=id,actors()&not.or=(actors.not.is.null,id.eq.9)", vec![4]),
        ("directors", "select=id,films!inner(id)&films.limit=0", vec![]),
        ("directors", "select=id,films!inner(id)&films.offset=1", vec![1]),
        ("films", "select=id,...directors!inner(name)", vec![1, 2, 3]),
        ("directors", "select=id,...films!inner(title)", vec![1, 2]),
    ] {
        let rows = bench.get(relation, &format!("{text}&order=id")).await;
        let ids: Vec<i64> = rows.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, expected, "{relation}?{text}");
    }
}

#[tokio::test]
async fn spreads() {
    let bench = Bench::new().await;
    for (relation, text, expected) in [
        (
            "films",
            "select=id,...directors(director:name)&id=in.(1,4)&order=id",
            json!([{"id":1,"director":"Ann"},{"id":4,"director":null}]),
        ),
        ("films", "select=id,...directors(*)&id=eq.3", json!([{"id":2,"name":"Bob","born":1960}])),
        (
            "roles",
            "select=character,...films(title,...directors(name))&film_id=eq.3",
            json!([{"character":"cat","title":"Gamma","name":"Bob"}]),
        ),
        (
            "roles",
            "select=character,...films(title,directors(name))&film_id=eq.3",
            json!([{"character":"cat","title":"Gamma","directors":{"name":"Bob"}}]),
        ),
        (
            "directors",
            "select=name,...films(title,year)&films.order=year.desc&order=id",
            json!([{"name":"Ann","title":["Beta","Alpha"],"year":[1995,1990]},{"name":"Bob","title":["Gamma"],"year":[2000]},{"name":"Cy","title":[],"year":[]}]),
        ),
        (
            "films",
            "select=id,...actors(actors:name)&actors.order=name&id=eq.1",
            json!([{"id":1,"actors":["Xena","Yul"]}]),
        ),
        (
            "directors",
            "select=name,...films(title,...actors(who:name))&films.order=id&films.actors.order=name&id=eq.1",
            json!([{"name":"Ann","title":["Alpha","Beta"],"who":[["Xena","Yul"],["Xena"]]}]),
        ),
        (
            "directors",
            "select=name,...films(title,...nominations(prize))&films.order=id&id=eq.1",
            json!([{"name":"Ann","title":["Alpha","Beta"],"prize":["gold",null]}]),
        ),
        (
            "films",
            "select=title,...directors(films(id))&directors.films.order=id&id=eq.1",
            json!([{"title":"Alpha","films":[{"id":1},{"id":2}]}]),
        ),
        ("directors", "select=name,...films(*)&id=eq.2", json!([{"name":"Bob"}])),
    ] {
        let read = bench.get(relation, text).await;
        if text.contains("...films(*)") {
            assert_eq!(read[0]["title"], json!(["Gamma"]));
            continue;
        }
        // `*` of a spread writes over the parent's key in a reader's eyes; both are in the text.
        assert_eq!(read, expected, "{relation}?{text}");
    }
}

#[tokio::test]
async fn order_and_limits_of_levels() {
    let bench = Bench::new().await;
    for (relation, text, expected) in [
        ("films", "select=id,directors(name)&order=directors(name).desc.nullslast,id.desc", json!([3, 2, 1, 4])),
        ("films", "select=id,directors()&order=directors(born).asc.nullsfirst,id", json!([4, 1, 2, 3])),
        ("films", "select=id,d:directors(id)&order=d(name).desc.nullslast,id&limit=1", json!([3])),
        ("films", "select=id,...directors(born)&order=directors(born).desc.nullslast,id&limit=1", json!([3])),
        ("films", "select=id,boss(id)&order=boss(name).desc.nullslast,id&limit=1", json!([3])),
    ] {
        let rows = bench.get(relation, text).await;
        let ids: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert_eq!(json!(ids), expected, "{relation}?{text}");
    }
    let read = bench.get("directors", "select=films(id)&films.order=id.desc&films.limit=1&id=eq.1").await;
    assert_eq!(read, json!([{"films":[{"id":2}]}]));
    let read = bench.get("directors", "select=films(id)&films.order=id&films.offset=1&id=eq.1").await;
    assert_eq!(read, json!([{"films":[{"id":2}]}]));
    let read = bench.get("films", "select=directors(id)&directors.limit=0&id=eq.1").await;
    assert_eq!(read, json!([{"directors":null}]));
    let refused = bench.failure("directors", "select=id,films(id)&order=films(id)").await;
    assert!(
        matches!(&refused, Failure::Plan(Error::OrderNotToOne { origin, target }) if origin == "directors" && target == "films")
    );
    let refused = bench.failure("films", "select=id,nope(id)").await;
    assert!(matches!(refused, Failure::Plan(Error::Relationship(_))));
}

#[tokio::test]
async fn depth_is_bounded_and_deep_queries_work() {
    let bench = Bench::new().await;
    let nested = |depth: usize| {
        let mut text = String::from("select=id");
        (0..depth).for_each(|_| text.push_str(",people(id"));
        (0..depth).for_each(|_| text.push(')'));
        text
    };
    let read = bench.get("people", &nested(20)).await;
    assert_eq!(read.as_array().unwrap().len(), 4);
    let mut wide = String::from("select=id");
    for number in 0..50 {
        let _ = write!(wide, ",a{number}:directors(name)");
    }
    assert_eq!(bench.get("films", &wide).await[0]["a49"]["name"], "Ann");
}

#[tokio::test]
async fn names_are_never_taken_for_one_another() {
    let bench = Bench::new().await;
    let long = "a23456789_123456789_123456789_123456789_123456789_123456789_123";
    assert_eq!(bench.get("directors_1", "select=id,directors(id)").await, json!([{"id":7,"directors":{"id":2}}]));
    let both = bench.get("directors_1", "select=id,directors(id,directors_1(id,directors(name)))").await;
    assert_eq!(both, json!([{"id":7,"directors":{"id":2,"directors_1":[{"id":7,"directors":{"name":"Bob"}}]}}]));
    let ups = bench.get(long, &format!("select=id,up(id),downs:{long}(id)&order=id")).await;
    assert_eq!(ups, json!([{"id":1,"up":null,"downs":[{"id":2}]},{"id":2,"up":{"id":1},"downs":[]}]));
    let same = bench.get("same", "select=same,louder,twins(same,louder)").await;
    assert_eq!(same, json!([{"same":"x","louder":"X1","twins":[{"same":"x","louder":"X1"}]}]));
    // Aliases of the client are like ours.
    let r = bench.get("films", "select=r:id,pgrst_1:title,...directors(r:name,pgrst_2:id)&id=eq.1").await;
    assert_eq!(r[0]["pgrst_2"], 1);
    let r = bench.read("films", "select=r:directors(r:id)&id=eq.1").await;
    assert_eq!(r.text(), "[{\"r\":{\"r\":1}}]");
}

#[test]
fn a_level_too_deep_is_refused() {
    let mut level = Level { select: vec![Item::All], ..Level::default() };
    for _ in 0..=DEEPEST {
        let embed = Embed { alias: None, target: "people".into(), hint: None, inner: false, spread: false, level };
        level = Level { select: vec![Item::Embed(Box::new(embed))], ..Level::default() };
    }
    let people = name("people");
    let key = ForeignKey { constraint: "boss".into(), columns: vec![("boss_id".into(), "id".into())] };
    let join = Join::OneToMany(key);
    let relationship = Relationship { from: people.clone(), to: people.clone(), to_self: true, join };
    let mut catalog = Catalog::default();
    catalog.relationships.insert(people.clone(), vec![Arc::new(relationship)]);
    let relation = Relation {
        name: people.clone(),
        comment: None,
        kind: RelationKind::Table,
        columns: Vec::new(),
        primary_key: Vec::new(),
        insertable: true,
        updatable: true,
        deletable: true,
        protected: true,
    };
    catalog.relations.insert(people.clone(), Arc::new(relation));
    let work = |level| Work {
        target: Target::Read(&people),
        level,
        output: JSON,
        count: None,
        max_rows: None,
        aggregates: true,
    };
    assert!(matches!(plan(&catalog, &work(&level)), Err(Error::TooDeep(_))));
    let Item::Embed(less) = &level.select[0] else { unreachable!() };
    assert!(plan(&catalog, &work(&less.level)).is_ok());
}
