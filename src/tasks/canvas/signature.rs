//! Signatures: a task, a chain, a group or a chord, as they lie in messages.
//!
//! A signature is data from whoever may send messages. It is read with a bound on its depth, and what does not have the
//! form of a signature is an error of the task that carries it, never of the worker. Options stay JSON, since most of
//! them are only passed on; `link`, `link_error`, `chain` and `chord` in them hold signatures that are read when used.

use serde_json::{Map, Value, json};

/// How deep signatures may be nested.
const DEEPEST: usize = 100;

/// Why a signature cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not the form of a signature.
    #[error("{0} is no signature")]
    NoSignature(&'static str),
    /// It is nested too deeply.
    #[error("the signature is nested more than {DEEPEST} deep")]
    TooDeep,
    /// Something that has no meaning, as a callback of a group.
    #[error("{0}")]
    Meaningless(&'static str),
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// The task's name; "celery.chain" and so on for what is none.
    pub task: String,
    /// Arguments that are set already.
    pub args: Vec<Value>,
    /// Named arguments that are set already; for a chord those of its header's tasks.
    pub kwargs: Map<String, Value>,
    /// Options of the message, and what follows it.
    pub options: Map<String, Value>,
    /// Which kind it is.
    pub kind: Kind,
    /// Takes no result of what ran before.
    pub immutable: bool,
}

/// Kinds of signatures.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One task; maps and starmaps, too.
    Task,
    /// One after the other, each with the result of the one before.
    Chain(Vec<Signature>),
    /// All at once.
    Group(Vec<Signature>),
    /// A group whose results go to a body.
    Chord {
        /// The group.
        header: Vec<Signature>,
        /// The group's own options.
        header_options: Map<String, Value>,
        /// What gets the results.
        body: Option<Box<Signature>>,
    },
}

impl Signature {
    /// Reads one. `what` is named if it is none.
    ///
    /// # Errors
    /// It is no signature, or one too deep.
    pub fn read(value: &Value, what: &'static str) -> Result<Self, Error> {
        Self::at(value, what, 0)
    }

    fn at(value: &Value, what: &'static str, depth: usize) -> Result<Self, Error> {
        if depth > DEEPEST {
            return Err(Error::TooDeep);
        }
        let fields = value.as_object().ok_or(Error::NoSignature(what))?;
        let task = fields.get("task").and_then(Value::as_str).ok_or(Error::NoSignature(what))?;
        let args = match fields.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args.clone(),
            Some(_) => return Err(Error::NoSignature(what)),
        };
        let object = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(_) => Err(Error::NoSignature(what)),
        };
        let (mut kwargs, options) = (object("kwargs")?, object("options")?);
        let kind = match fields.get("subtask_type").and_then(Value::as_str) {
            Some("chain") => Kind::Chain(members(kwargs.remove("tasks"), depth)?.0),
            Some("group") => Kind::Group(members(kwargs.remove("tasks"), depth)?.0),
            Some("chord") => {
                let (header, header_options) = members(kwargs.remove("header"), depth)?;
                let body = match kwargs.remove("body") {
                    None | Some(Value::Null) => None,
                    Some(body) => Some(Box::new(Self::at(&body, "the body of a chord", depth + 1)?)),
                };
                kwargs = match kwargs.remove("kwargs") {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                };
                Kind::Chord { header, header_options, body }
            }
            Some("chunks") => Kind::Group(chunks(&kwargs)?),
            _ => Kind::Task,
        };
        let kwargs = if matches!(kind, Kind::Chain(_) | Kind::Group(_)) { Map::new() } else { kwargs };
        let immutable = fields.get("immutable").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { task: task.to_owned(), args, kwargs, options, kind, immutable })
    }

    /// A group of these.
    #[must_use]
    pub fn group(members: Vec<Self>, options: Map<String, Value>) -> Self {
        Self {
            task: "celery.group".into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options,
            kind: Kind::Group(members),
            immutable: false,
        }
    }

    /// A chord of these.
    #[must_use]
    pub fn chord(header: Vec<Self>, header_options: Map<String, Value>, body: Self) -> Self {
        Self {
            task: "celery.chord".into(),
            args: Vec::new(),
            kwargs: Map::new(),
            options: Map::new(),
            kind: Kind::Chord { header, header_options, body: Some(Box::new(body)) },
            immutable: false,
        }
    }

    /// Whether it is a group.
    #[must_use]
    pub fn is_group(&self) -> bool {
        matches!(self.kind, Kind::Group(_))
    }

    /// Whether it is a chord.
    #[must_use]
    pub fn is_chord(&self) -> bool {
        matches!(self.kind, Kind::Chord { .. })
    }

    /// A group or chain without members: it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.kind, Kind::Group(tasks) | Kind::Chain(tasks) if tasks.is_empty())
    }

    /// A group of one is that one.
    #[must_use]
    pub fn unrolled(self) -> Self {
        match self.kind {
            Kind::Group(mut tasks) if tasks.len() == 1 => tasks.remove(0),
            kind => Self { kind, ..self },
        }
    }

    /// As it lies in a message.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let all = |tasks: &[Self]| Value::Array(tasks.iter().map(Self::to_value).collect());
        let (kwargs, kind) = match &self.kind {
            Kind::Task => {
                let kind = match self.task.as_str() {
                    "celery.map" => json!("xmap"),
                    "celery.starmap" => json!("xstarmap"),
                    _ => Value::Null,
                };
                (Value::Object(self.kwargs.clone()), kind)
            }
            Kind::Chain(tasks) => (json!({ "tasks": all(tasks) }), json!("chain")),
            Kind::Group(tasks) => (json!({ "tasks": all(tasks) }), json!("group")),
            Kind::Chord { header, header_options, body } => {
                let header = Self::group(header.clone(), header_options.clone()).to_value();
                let body = body.as_ref().map_or(Value::Null, |body| body.to_value());
                (json!({ "kwargs": self.kwargs, "header": header, "body": body }), json!("chord"))
            }
        };
        json!({
            "task": self.task, "args": self.args, "kwargs": kwargs, "options": self.options,
            "subtask_type": kind, "immutable": self.immutable,
        })
    }

    /// An option that is text.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(Value::as_str)
    }

    /// Runs this after its success.
    pub fn link(&mut self, callback: &Value) {
        match &mut self.kind {
            Kind::Group(tasks) => {
                // The first one cannot pass its siblings' results on.
                let mut callback = callback.clone();
                if let Some(fields) = callback.as_object_mut() {
                    fields.insert("immutable".into(), Value::Bool(true));
                }
                if let Some(first) = tasks.first_mut() {
                    first.link(&callback);
                }
            }
            Kind::Chord { body: Some(body), .. } => body.link(callback),
            _ => append(&mut self.options, "link", callback),
        }
    }

    /// Runs this after its failure.
    pub fn link_error(&mut self, errback: &Value) {
        match &mut self.kind {
            Kind::Group(tasks) => tasks.iter_mut().for_each(|task| task.link_error(errback)),
            Kind::Chord { header, body, .. } => {
                header.iter_mut().filter(|task| task.is_chord()).for_each(|task| task.link_error(errback));
                if let Some(body) = body {
                    body.link_error(errback);
                }
            }
            _ => append(&mut self.options, "link_error", errback),
        }
    }

    /// How many ends it counts for in a chord that it is a part of.
    #[must_use]
    pub fn weight(&self) -> usize {
        match &self.kind {
            Kind::Task => 1,
            Kind::Group(tasks) => tasks.iter().map(Self::weight).sum(),
            Kind::Chain(tasks) => tasks.iter().rev().map(Self::weight).find(|weight| *weight > 0).unwrap_or(0),
            Kind::Chord { body, .. } => body.as_ref().map_or(0, |body| body.weight()),
        }
    }

    /// Takes the body of each chord out of the options of its header's tasks: it is put there again when the header is
    /// sent, and messages of nested chords would multiply otherwise.
    pub fn strip(&mut self) {
        match &mut self.kind {
            Kind::Task => {}
            Kind::Group(tasks) | Kind::Chain(tasks) => tasks.iter_mut().for_each(Self::strip),
            Kind::Chord { header, header_options, body } => {
                header_options.remove("chord");
                for task in header {
                    task.clear_chord();
                    task.strip();
                }
                if let Some(body) = body {
                    body.strip();
                }
            }
        }
    }

    fn clear_chord(&mut self) {
        self.options.remove("chord");
        match &mut self.kind {
            Kind::Task => {}
            Kind::Group(tasks) => tasks.iter_mut().for_each(Self::clear_chord),
            Kind::Chain(tasks) => {
                if let Some(last) = tasks.last_mut() {
                    last.clear_chord();
                }
            }
            Kind::Chord { body, .. } => {
                if let Some(body) = body {
                    body.clear_chord();
                }
            }
        }
    }

    /// A chord whose body is a chain that begins with a task: the chord with that task as its body, and the rest of the
    /// chain. Otherwise it alone. Every task of a header carries the body.
    #[must_use]
    pub fn split_body(mut self) -> Vec<Self> {
        let Kind::Chord { body: Some(body), .. } = &mut self.kind else { return vec![self] };
        let Kind::Chain(tasks) = &body.kind else { return vec![self] };
        if tasks.first().is_none_or(Self::is_group) {
            return vec![self];
        }
        let mut tasks = tasks.clone();
        for callback in list(body.options.get("link")) {
            if let Some(last) = tasks.last_mut() {
                last.link(callback);
            }
        }
        for errback in list(body.options.get("link_error")) {
            for task in &mut tasks {
                task.link_error(errback);
            }
        }
        let own = ["chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"];
        let mut first = tasks.remove(0);
        for (name, value) in &body.options {
            if !own.contains(&name.as_str()) {
                first.options.insert(name.clone(), value.clone());
            }
        }
        **body = first;
        let mut all = vec![self];
        all.append(&mut tasks);
        all
    }
}

/// What an option holds that may be a list, one value, or nothing.
pub fn list(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
    }
}

/// Adds a value to an option that is a list, unless it is there.
pub fn append(options: &mut Map<String, Value>, name: &str, value: &Value) {
    let mut all = list(options.get(name)).to_vec();
    if !all.contains(value) {
        all.push(value.clone());
    }
    options.insert(name.to_owned(), Value::Array(all));
}

/// The members of a group, chain or header: a list, or a group or chain itself.
fn members(value: Option<Value>, depth: usize) -> Result<(Vec<Signature>, Map<String, Value>), Error> {
    match value {
        None | Some(Value::Null) => Ok((Vec::new(), Map::new())),
        Some(Value::Array(all)) => {
            let all = all.iter().map(|value| Signature::at(value, "a member of the canvas", depth + 1));
            Ok((all.collect::<Result<_, _>>()?, Map::new()))
        }
        Some(value) => {
            let whole = Signature::at(&value, "a member of the canvas", depth + 1)?;
            match whole.kind {
                Kind::Group(tasks) => Ok((tasks, whole.options)),
                Kind::Chain(tasks) => Ok((tasks, Map::new())),
                _ => Ok((vec![whole], Map::new())),
            }
        }
    }
}

/// A task over a list in parts: a group of starmaps.
fn chunks(kwargs: &Map<String, Value>) -> Result<Vec<Signature>, Error> {
    let task = kwargs.get("task").ok_or(Error::NoSignature("the task of the chunks"))?;
    let items = kwargs.get("it").and_then(Value::as_array).ok_or(Error::NoSignature("the list of the chunks"))?;
    let size = kwargs.get("n").and_then(Value::as_u64).filter(|size| *size > 0);
    let size = size.ok_or(Error::NoSignature("the size of the chunks"))? as usize;
    let starmap = |part: &[Value]| Signature {
        task: "celery.starmap".into(),
        args: Vec::new(),
        kwargs: Map::from_iter([("task".to_owned(), task.clone()), ("it".to_owned(), Value::Array(part.to_vec()))]),
        options: Map::new(),
        kind: Kind::Task,
        immutable: true,
    };
    Ok(items.chunks(size).map(starmap).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A task's signature.
    #[expect(clippy::needless_pass_by_value, reason = "it is called with values made in place")]
    pub fn task(name: &str, args: Value) -> Value {
        json!({"task": name, "args": args, "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false})
    }

    /// A chain's or group's.
    pub fn several(kind: &str, tasks: &[Value]) -> Value {
        json!({"task": format!("celery.{kind}"), "args": [], "kwargs": {"tasks": tasks}, "options": {},
            "subtask_type": kind, "immutable": false})
    }

    /// A chord's.
    pub fn chord(header: &[Value], body: &Value) -> Value {
        json!({"task": "celery.chord", "args": [], "kwargs": {"kwargs": {}, "header": several("group", header),
            "body": body}, "options": {}, "subtask_type": "chord", "immutable": false})
    }

    #[test]
    fn signatures_come_out_as_they_went_in() {
        let body = several("chain", &[task("b", json!([])), task("c", json!([1]))]);
        let whole = several("chain", &[task("a", json!([1])), chord(&[task("h", json!([]))], &body)]);
        assert_eq!(Signature::read(&whole, "it").unwrap().to_value(), whole);
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        for bad in [
            json!(null),
            json!("add"),
            json!({"args": []}),
            json!({"task": "a", "args": {}}),
            json!({"task": "a", "kwargs": []}),
            json!({"task": "a", "kwargs": {"tasks": [3]}, "subtask_type": "group"}),
            json!({"task": "a", "kwargs": {"task": {}, "it": [1], "n": 0}, "subtask_type": "chunks"}),
        ] {
            assert!(Signature::read(&bad, "it").is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| {
            let mut value = task("a", json!([]));
            for _ in 0..levels {
                value = several("group", &[value]);
            }
            Signature::read(&value, "it")
        };
        assert!(deep(100).is_ok());
        assert_eq!(deep(101), Err(Error::TooDeep));
    }

    #[test]
    fn weights_count_the_ends() {
        let weight = |value: &Value| Signature::read(value, "it").unwrap().weight();
        let one = task("a", json!([]));
        let pair = several("group", &[one.clone(), one.clone()]);
        assert_eq!(weight(&one), 1);
        assert_eq!(weight(&several("chain", &[one.clone(), pair.clone()])), 2);
        assert_eq!(weight(&several("chain", &[one.clone(), several("group", &[])])), 1);
        assert_eq!(weight(&chord(&[one.clone(), one.clone(), one.clone()], &pair)), 2);
    }

    #[test]
    fn chunks_are_a_group_of_starmaps() {
        let value = json!({"task": "celery.chunks", "args": [], "kwargs": {"task": task("add", json!([])),
            "it": [[1, 2], [3, 4], [5, 6]], "n": 2}, "options": {}, "subtask_type": "chunks", "immutable": true});
        let Kind::Group(parts) = Signature::read(&value, "it").unwrap().kind else { panic!("no group") };
        let sizes: Vec<usize> = parts.iter().map(|part| part.kwargs["it"].as_array().unwrap().len()).collect();
        assert_eq!((parts[0].task.as_str(), sizes), ("celery.starmap", vec![2, 1]));
    }

    #[test]
    fn a_body_that_is_a_chain_is_split() {
        let body = several("chain", &[task("b", json!([])), task("c", json!([])), task("d", json!([]))]);
        let parts = Signature::read(&chord(&[task("h", json!([]))], &body), "it").unwrap().split_body();
        assert_eq!(parts.iter().map(|part| part.task.as_str()).collect::<Vec<_>>(), ["celery.chord", "c", "d"]);
        let Kind::Chord { body: Some(body), .. } = &parts[0].kind else { panic!("no chord") };
        assert_eq!(body.task, "b");
    }
}
