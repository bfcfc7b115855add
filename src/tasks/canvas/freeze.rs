//! Making signatures final: identifiers for every task before anything is sent, so that results can be named at once and
//! each part of a chord knows its place.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::signature::{Error, Kind, Signature};

/// Results before a result that are told of.
const LONGEST_LINE: usize = 1_000;

/// A result, and what it came from: Celery's result tuple.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// The task's or group's identifier.
    pub id: String,
    /// What ran before.
    pub parent: Option<Box<Node>>,
    /// Of a group: the results of its tasks.
    pub children: Option<Vec<Node>>,
}

impl Node {
    /// The result of a task.
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// As Celery writes it.
    pub fn tuple(&self) -> Value {
        let parent = self.parent.as_ref().map_or(Value::Null, |parent| parent.tuple());
        let children =
            self.children.as_ref().map_or(Value::Null, |all| Value::Array(all.iter().map(Self::tuple).collect()));
        json!([[self.id, parent], children])
    }

    /// Puts a result before the first one of this line.
    pub fn follow(&mut self, first: Node) {
        let mut place = &mut self.parent;
        while let Some(parent) = place {
            place = &mut parent.parent;
        }
        *place = Some(Box::new(first));
    }
}

/// What a signature gets when it is made final.
#[derive(Clone, Copy, Default)]
pub struct Freeze<'a> {
    /// Its identifier, unless it has one.
    pub id: Option<&'a str>,
    /// The group that it is in.
    pub group: Option<&'a str>,
    /// The body of the chord that it is in.
    pub chord: Option<&'a Value>,
    /// The first task of all.
    pub root: Option<&'a str>,
    /// The task before.
    pub parent: Option<&'a str>,
    /// Its place in the group.
    pub index: Option<usize>,
}

/// The steps of a chain, the first one last, with identifiers; and the result of each.
pub fn prepare(
    tasks: Vec<Signature>,
    args: &[Value],
    kwargs: &Map<String, Value>,
    last: Freeze<'_>,
    errbacks: &[Value],
    run: bool,
) -> Result<(Vec<Signature>, Vec<Node>), Error> {
    let mut steps = headed(tasks);
    let (mut done, mut nodes): (Vec<Signature>, Vec<Node>) = (Vec::new(), Vec::new());
    // From the last to the first: a step must know what follows it.
    while let Some(step) = steps.pop_back() {
        let mut step = step.unrolled();
        if step.is_group() && step.is_empty() && !(steps.is_empty() && done.is_empty()) {
            continue;
        }
        if run && step.is_chord() {
            let mut parts = step.split_body();
            if parts.len() > 1 {
                steps.extend(parts);
                continue;
            }
            step = parts.remove(0);
        }
        let first = steps.is_empty();
        if let Kind::Chain(inner) = step.kind {
            steps.extend(inner);
            continue;
        }
        if first {
            bind(&mut step, args, kwargs);
        }
        let ends = done.is_empty();
        if step.is_group()
            && let Some(body) = done.pop()
        {
            // A group before a task is a chord.
            nodes.pop();
            let Signature { kind: Kind::Group(header), args, kwargs, mut options, .. } = step else {
                return Err(Error::NoSignature("the header"));
            };
            if let Some(root) = last.root {
                options.insert("root_id".into(), Value::String(root.to_owned()));
            }
            step = Signature { args, kwargs, ..Signature::chord(header, options, body) };
        }
        let own = if ends || done.is_empty() { last } else { Freeze { root: last.root, ..Freeze::default() } };
        let node = freeze(&mut step, own)?;
        for errback in errbacks {
            step.link_error(errback);
            if let Kind::Chord { body: Some(body), .. } = &mut step.kind {
                body.link_error(errback);
            }
        }
        if run {
            step.strip();
        }
        done.push(step);
        nodes.push(node);
    }
    Ok((done, nodes))
}

/// The steps of a chain with a task at their head: chains there are opened, and empty groups left out.
fn headed(tasks: Vec<Signature>) -> VecDeque<Signature> {
    let mut steps = VecDeque::from(tasks);
    let mut empty = None;
    while let Some(head) = steps.pop_front() {
        let head = head.unrolled();
        if let Kind::Chain(inner) = head.kind {
            inner.into_iter().rev().for_each(|step| steps.push_front(step));
        } else if head.is_group() && head.is_empty() && !steps.is_empty() {
            empty = Some(head);
        } else {
            steps.push_front(head);
            return steps;
        }
    }
    steps.extend(empty);
    steps
}

/// Splits the chords of a chain whose bodies are chains.
pub fn split(tasks: Vec<Signature>) -> Vec<Signature> {
    let mut pending = VecDeque::from(tasks);
    let mut all = Vec::new();
    while let Some(mut task) = pending.pop_front() {
        if let Kind::Chain(inner) = &mut task.kind {
            *inner = split(std::mem::take(inner));
        }
        let mut parts = task.split_body();
        if parts.len() > 1 {
            parts.into_iter().rev().for_each(|part| pending.push_front(part));
        } else {
            all.append(&mut parts);
        }
    }
    all
}

/// Gives a signature its identifiers.
pub fn freeze(signature: &mut Signature, with: Freeze<'_>) -> Result<Node, Error> {
    let options = &mut signature.options;
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    let text = |text: Option<&str>| text.map(|text| Value::String(text.to_owned()));
    match &mut signature.kind {
        Kind::Task => {
            set("root_id", text(with.root));
            set("parent_id", text(with.parent));
            set("chord", with.chord.cloned());
            set("group_index", with.index.map(Value::from));
            let id = match options.get("task_id").and_then(Value::as_str) {
                Some(id) => id.to_owned(),
                None => with.id.map_or_else(new_id, str::to_owned),
            };
            options.insert("task_id".into(), Value::String(id.clone()));
            if let Some(group) = with.group {
                options.entry("group_id").or_insert_with(|| Value::String(group.to_owned()));
            }
            Ok(Node::of(&id))
        }
        Kind::Group(tasks) => {
            set("group_id", text(with.group));
            set("chord", with.chord.cloned());
            set("group_index", with.index.map(Value::from));
            for (name, value) in [("root_id", with.root), ("parent_id", with.parent)] {
                if let Some(value) = value {
                    options.entry(name).or_insert_with(|| Value::String(value.to_owned()));
                }
            }
            let group = options.get("task_id").and_then(Value::as_str).map_or_else(new_id, str::to_owned);
            options.insert("task_id".into(), Value::String(group.clone()));
            let mut all = flat(std::mem::take(tasks));
            let mut nodes = Vec::with_capacity(all.len());
            for (index, task) in all.iter_mut().enumerate() {
                nodes.push(freeze(task, Freeze { id: None, index: Some(index), ..with })?);
            }
            *tasks = all;
            Ok(Node { id: group, parent: None, children: Some(nodes) })
        }
        Kind::Chain(tasks) => {
            let args = std::mem::take(&mut signature.args);
            let (mut steps, nodes) = prepare(std::mem::take(tasks), &args, &Map::new(), with, &[], false)?;
            steps.reverse();
            *tasks = steps;
            Ok(lined_up(nodes))
        }
        Kind::Chord { header, header_options, body } => {
            let Some(body) = body else { return Err(Error::Meaningless("a chord needs a body")) };
            let mut node = freeze(body, with)?;
            let group = header_options.get("task_id").and_then(Value::as_str).map_or_else(new_id, str::to_owned);
            header_options.insert("task_id".into(), Value::String(group.clone()));
            options.insert("task_id".into(), Value::String(group.clone()));
            let mut all = flat(std::mem::take(header));
            let mut nodes = Vec::with_capacity(all.len());
            for (index, task) in all.iter_mut().enumerate() {
                let part = Freeze { root: with.root, parent: with.parent, index: Some(index), ..Freeze::default() };
                nodes.push(freeze(task, part)?);
            }
            *header = all;
            node.follow(Node { id: group, parent: None, children: Some(nodes) });
            Ok(node)
        }
    }
}

/// Members of groups within a group become its own; chains without steps are left out.
pub fn flat(tasks: Vec<Signature>) -> Vec<Signature> {
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.kind {
            Kind::Group(inner) => all.append(&mut flat(inner)),
            Kind::Chain(ref inner) if inner.is_empty() => {}
            _ => all.push(task),
        }
    }
    all
}

/// The results of a chain's steps, given from the last to the first, as one line. A line is a nest of as many levels,
/// so that of a very long chain is cut.
pub fn lined_up(mut nodes: Vec<Node>) -> Node {
    nodes.truncate(LONGEST_LINE);
    let mut nodes = nodes.into_iter().rev();
    let mut line = nodes.next().unwrap_or_default();
    for mut node in nodes {
        node.follow(line);
        line = node;
    }
    line
}

/// Puts arguments before a signature's own.
pub fn bind(signature: &mut Signature, args: &[Value], kwargs: &Map<String, Value>) {
    if signature.immutable {
        return;
    }
    if !args.is_empty() {
        signature.args = [args, &signature.args].concat();
    }
    for (name, value) in kwargs {
        signature.kwargs.insert(name.clone(), value.clone());
    }
}

/// A new identifier.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}
