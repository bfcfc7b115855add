//! From signatures to messages: which are sent now, which chords are counted, and what the sender's result says of them.
//!
//! It follows Celery's canvas step by step (freeze, then apply), since workers of both kinds hand parts of one canvas to
//! each other: identifiers, groups and counts must come out alike. Nothing is sent here: a plan is carried out whole,
//! counts first, so that no part of a chord can return before its size is known.

use serde_json::{Map, Value, json};

use super::freeze::{Freeze, Node, bind, flat, freeze, lined_up, new_id, prepare, split};
use super::signature::{Error, Kind, Signature, append, list};

/// Options that a call does not override where a signature has them.
const KEPT: [&str; 2] = ["group_id", "stamped_headers"];

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages to be published, in this order.
    pub messages: Vec<Message>,
    /// Groups whose tasks are counted by a chord, and how many ends there will be.
    pub chords: Vec<(String, usize)>,
    /// Groups whose structure is to be stored, since their results are nested.
    pub saved: Vec<(String, Value)>,
    /// The results of what is sent, as they are listed in the sender's result.
    pub children: Vec<Value>,
}

/// One message to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The task's name.
    pub task: String,
    /// Its identifier.
    pub id: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Its named arguments.
    pub kwargs: Map<String, Value>,
    /// The options of Celery's `apply_async` that are set: link, link_error, chain, chord, group_id, group_index,
    /// root_id, parent_id, queue, priority, countdown, eta, expires and so on.
    pub options: Map<String, Value>,
}

/// Makes a plan.
pub struct Planner {
    root: Option<String>,
    parent: Option<String>,
    plan: Plan,
}

impl Planner {
    /// A plan of the task `parent`, whose first ancestor is `root`.
    #[must_use]
    pub fn new(root: Option<&str>, parent: Option<&str>) -> Self {
        Self { root: root.map(str::to_owned), parent: parent.map(str::to_owned), plan: Plan::default() }
    }

    /// Calls a signature with these arguments before its own, and these options over its own.
    ///
    /// # Errors
    /// It has no meaning. The plan is of no use then.
    pub fn call(&mut self, signature: Signature, args: &[Value], given: Map<String, Value>) -> Result<(), Error> {
        self.apply(signature, args, &Map::new(), given, true).map(drop)
    }

    /// The plan.
    #[must_use]
    pub fn finish(self) -> Plan {
        self.plan
    }

    fn apply(
        &mut self,
        signature: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given: Map<String, Value>,
        listed: bool,
    ) -> Result<Node, Error> {
        let node = match signature.kind {
            Kind::Task => {
                let node = self.task(signature, args, kwargs, &given);
                if listed {
                    self.plan.children.push(node.tuple());
                }
                node
            }
            Kind::Chain(_) => self.chain(signature, args, kwargs, given, listed)?,
            Kind::Group(_) => self.group(signature, args, kwargs, &given, listed)?,
            Kind::Chord { .. } => self.chord(signature, args, kwargs, given)?,
        };
        Ok(node)
    }

    fn task(
        &mut self,
        mut signature: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given: &Map<String, Value>,
    ) -> Node {
        bind(&mut signature, args, kwargs);
        let mut options = merged(&signature.options, given);
        let id = taken(&mut options, "task_id").unwrap_or_else(new_id);
        for (name, own) in [("root_id", &self.root), ("parent_id", &self.parent)] {
            if let Some(own) = own
                && options.get(name).is_none_or(Value::is_null)
            {
                options.insert(name.to_owned(), Value::String(own.clone()));
            }
        }
        let node = Node::of(&id);
        let Signature { task, args, kwargs, .. } = signature;
        self.plan.messages.push(Message { task, id, args, kwargs, options });
        node
    }

    fn chain(
        &mut self,
        signature: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given: Map<String, Value>,
        listed: bool,
    ) -> Result<Node, Error> {
        let Kind::Chain(tasks) = signature.kind else { return Err(Error::NoSignature("the chain")) };
        let mut options = signature.options;
        options.extend(given);
        let all;
        let args = if signature.immutable || args.is_empty() {
            &signature.args
        } else {
            all = [args, &signature.args].concat();
            &all
        };
        let link = options.remove("link");
        let link_error = options.remove("link_error");
        let chord = options.remove("chord").filter(|chord| !chord.is_null());
        let (id, group) = (taken(&mut options, "task_id"), taken(&mut options, "group_id"));
        let (root, parent) = (taken(&mut options, "root_id"), taken(&mut options, "parent_id"));
        let index = options.remove("group_index").and_then(|index| index.as_u64()).map(|index| index as usize);
        let freeze = Freeze {
            id: id.as_deref(),
            group: group.as_deref(),
            chord: chord.as_ref(),
            root: root.as_deref(),
            parent: parent.as_deref(),
            index,
        };
        let (mut tasks, nodes) = prepare(tasks, args, kwargs, freeze, list(link_error.as_ref()), true)?;
        if let Some(last) = tasks.first_mut() {
            for callback in list(link.as_ref()) {
                append(&mut last.options, "link", callback);
            }
        }
        let Some(first) = tasks.pop() else { return Ok(Node::default()) };
        // The remaining steps, the next one last; behind them those of a chain around this one.
        let mut rest = list(options.get("chain")).to_vec();
        rest.extend(tasks.iter().map(Signature::to_value));
        options.insert("chain".into(), Value::Array(rest));
        // Every task of it has the ancestors of the chain.
        for (name, value) in [("root_id", root), ("parent_id", parent)] {
            if let Some(value) = value {
                options.insert(name.into(), Value::String(value));
            }
        }
        let alone = tasks.is_empty();
        let node = self.apply(first, &[], &Map::new(), options, listed)?;
        Ok(if alone { node } else { lined_up(nodes) })
    }

    fn group(
        &mut self,
        signature: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        given: &Map<String, Value>,
        listed: bool,
    ) -> Result<Node, Error> {
        let mut options = merged(&signature.options, given);
        let args = &[args, &signature.args].concat();
        let Kind::Group(tasks) = signature.kind else { return Err(Error::NoSignature("the group")) };
        let group = taken(&mut options, "task_id").unwrap_or_else(new_id);
        options.insert("group_id".into(), Value::String(group.clone()));
        options.remove("group_index");
        let root = options.get("root_id").and_then(Value::as_str).map(str::to_owned);
        let chord = options.remove("chord").filter(|chord| !chord.is_null());
        let (mut nodes, mut ends, mut counted) = (Vec::new(), 0, false);
        let mut tasks = flat(tasks);
        for (index, task) in tasks.iter_mut().enumerate() {
            let own = Freeze { group: Some(&group), root: root.as_deref(), index: Some(index), ..Freeze::default() };
            nodes.push(freeze(task, own)?);
        }
        for task in tasks {
            let chord = chord.clone().or_else(|| task.options.get("chord").filter(|chord| !chord.is_null()).cloned());
            ends += task.weight();
            counted = chord.is_some();
            let mut options = options.clone();
            if let Some(chord) = chord {
                options.insert("chord".into(), chord);
            }
            self.apply(task, args, kwargs, options, false)?;
        }
        if counted {
            self.plan.chords.push((group.clone(), ends));
        }
        let mut node = Node { id: group, parent: None, children: Some(nodes) };
        if let Some([only]) = node.children.as_deref()
            && only.children.is_some()
        {
            node = only.clone();
        }
        if listed && node.children.as_ref().is_some_and(|children| !children.is_empty()) {
            self.plan.children.push(node.tuple());
        }
        Ok(node)
    }

    fn chord(
        &mut self,
        signature: Signature,
        args: &[Value],
        kwargs: &Map<String, Value>,
        mut given: Map<String, Value>,
    ) -> Result<Node, Error> {
        let Kind::Chord { header, mut header_options, body: Some(body) } = signature.kind else {
            return Err(Error::Meaningless("a chord needs a body"));
        };
        let own = signature.options;
        let args = if signature.immutable || args.is_empty() {
            signature.args.clone()
        } else {
            [args, &signature.args].concat()
        };
        let mut header_kwargs = signature.kwargs;
        header_kwargs.extend(kwargs.clone());
        // A delay is the header's: the body begins when that has ended.
        let mut delay = Map::new();
        for name in ["countdown", "eta"] {
            if let Some(value) = given.remove(name).or_else(|| own.get(name).cloned()).filter(|value| !value.is_null())
            {
                delay.insert(name.to_owned(), value);
            }
        }
        let body_id = taken(&mut given, "task_id");
        let (link, link_error) = (given.remove("link"), given.remove("link_error"));
        let mut body = *body;
        body.options = merged(&body.options, &without(&given, &["parent_id"]));
        let mut options = own;
        options.extend(given);
        let own_id = taken(&mut options, "task_id");
        options.remove("countdown");
        options.remove("eta");
        let group = taken(&mut header_options, "task_id").unwrap_or_else(new_id);
        let root = body.option("root_id").map(str::to_owned);
        let links = list(link.as_ref().or(options.get("link"))).to_vec();
        let errors = list(link_error.as_ref().or(options.get("link_error"))).to_vec();
        options.remove("link");
        options.remove("link_error");
        for callback in &links {
            if body.is_group() && body.is_empty() {
                append(&mut body.options, "link", callback);
            } else {
                body.link(callback);
            }
        }
        for errback in &errors {
            if body.is_group() {
                error_of_body(&mut body, errback, true);
            } else {
                append(&mut body.options, "link_error", errback);
            }
        }
        body.options.extend(without(&options, &["parent_id"]));
        if let Kind::Chain(tasks) = &mut body.kind {
            *tasks = split(std::mem::take(tasks));
        }
        let body_id = body_id.or(own_id).filter(|id| *id != group).unwrap_or_else(new_id);
        let as_body = Freeze { id: Some(&body_id), group: Some(&group), root: root.as_deref(), ..Freeze::default() };
        let mut body_node = freeze(&mut body, as_body)?;
        body.strip();
        for name in ["chain", "chord", "task_id"] {
            options.remove(name);
        }
        let callback = body.to_value();
        let mut tasks = flat(header);
        let mut nodes = Vec::with_capacity(tasks.len());
        for (index, task) in tasks.iter_mut().enumerate() {
            let as_part = Freeze {
                group: Some(&group),
                chord: Some(&callback),
                root: root.as_deref(),
                index: Some(index),
                ..Freeze::default()
            };
            nodes.push(freeze(task, as_part)?);
        }
        let header_node = if tasks.is_empty() {
            // Nothing would ever trigger it.
            self.apply(body, &[json!([])], &Map::new(), Map::new(), true)?;
            Node { id: group, parent: None, children: Some(Vec::new()) }
        } else {
            let whole = Node { id: group.clone(), parent: None, children: Some(nodes) };
            if whole.children.iter().flatten().any(|node| node.children.is_some()) {
                self.plan.saved.push((group.clone(), whole.tuple()));
            }
            options.extend(delay);
            options.insert("chord".into(), callback);
            options.insert("task_id".into(), Value::String(group));
            self.apply(Signature::group(tasks, header_options), &args, &header_kwargs, options, true)?
        };
        body_node.follow(header_node);
        Ok(body_node)
    }
}

/// An errback of a chord whose body is a group: that of each task, unless the group has its own.
fn error_of_body(body: &mut Signature, errback: &Value, whole: bool) {
    if body.is_group() && whole && body.options.get("link_error").is_some_and(|own| !own.is_null()) {
        append(&mut body.options, "link_error", errback);
        return;
    }
    match &mut body.kind {
        Kind::Group(tasks) => tasks.iter_mut().for_each(|task| error_of_body(task, errback, false)),
        Kind::Chord { body: Some(body), .. } => error_of_body(body, errback, true),
        _ => body.link_error(errback),
    }
}

fn merged(own: &Map<String, Value>, given: &Map<String, Value>) -> Map<String, Value> {
    let stamped: Vec<&str> = list(own.get("stamped_headers")).iter().filter_map(Value::as_str).collect();
    let mut all = own.clone();
    for (name, value) in given {
        let kept = KEPT.contains(&name.as_str()) || stamped.contains(&name.as_str());
        if value.is_null() || (kept && own.contains_key(name)) {
            continue;
        }
        all.insert(name.clone(), value.clone());
    }
    all
}

fn without(options: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    options
        .iter()
        .filter(|(name, _)| !names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn taken(options: &mut Map<String, Value>, name: &str) -> Option<String> {
    match options.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::{chord, several, task};
    use super::*;

    fn plan(value: &Value, args: &[Value]) -> Plan {
        let mut planner = Planner::new(Some("root"), Some("parent"));
        planner.call(Signature::read(value, "it").unwrap(), args, Map::new()).unwrap();
        planner.finish()
    }

    fn option<'a>(message: &'a Message, name: &str) -> &'a Value {
        message.options.get(name).unwrap_or(&Value::Null)
    }

    #[test]
    fn a_task_gets_the_result_before_its_own_arguments() {
        let plan = plan(&task("add", json!([3])), &[json!(2)]);
        let [message] = &plan.messages[..] else { panic!("{plan:?}") };
        assert_eq!((message.task.as_str(), &message.args), ("add", &vec![json!(2), json!(3)]));
        assert_eq!((option(message, "root_id"), option(message, "parent_id")), (&json!("root"), &json!("parent")));
        assert_eq!(plan.children, [json!([[message.id, null], null])]);
    }

    #[test]
    fn an_immutable_signature_takes_no_result() {
        let mut value = task("add", json!([3]));
        value["immutable"] = json!(true);
        assert_eq!(plan(&value, &[json!(2)]).messages[0].args, [json!(3)]);
    }

    #[test]
    fn a_chain_sends_its_first_step_with_the_rest_reversed() {
        let value = several("chain", &[task("a", json!([1])), task("b", json!([])), task("c", json!([]))]);
        let plan = plan(&value, &[json!(0)]);
        let [message] = &plan.messages[..] else { panic!("{plan:?}") };
        assert_eq!((message.task.as_str(), &message.args), ("a", &vec![json!(0), json!(1)]));
        let rest: Vec<&str> =
            option(message, "chain").as_array().unwrap().iter().map(|step| step["task"].as_str().unwrap()).collect();
        assert_eq!(rest, ["c", "b"]);
        assert!(option(message, "chain")[0]["options"]["task_id"].is_string(), "later steps have identifiers");
        assert_eq!(plan.children.len(), 1);
    }

    #[test]
    fn a_group_before_a_task_is_a_chord() {
        let pair = several("group", &[task("a", json!([])), task("b", json!([]))]);
        let plan = plan(&several("chain", &[pair, task("sum", json!([])), task("last", json!([]))]), &[json!(7)]);
        let [one, two] = &plan.messages[..] else { panic!("{plan:?}") };
        assert_eq!((one.args.as_slice(), two.args.as_slice()), (&[json!(7)][..], &[json!(7)][..]));
        let group = option(one, "group_id").as_str().unwrap();
        assert_eq!(plan.chords, [(group.to_owned(), 2)]);
        assert_eq!((option(one, "group_index"), option(two, "group_index")), (&json!(0), &json!(1)));
        let body = option(one, "chord");
        assert_eq!((body["task"].as_str(), option(two, "chord")), (Some("sum"), body));
        assert_eq!(body["options"]["chain"][0]["task"], "last", "what follows runs after the body");
        assert!(option(one, "chain").is_null());
        assert_eq!(plan.children, [json!([[group, null], [[[one.id, null], null], [[two.id, null], null]]])]);
    }

    #[test]
    fn a_chord_counts_the_ends_of_its_header() {
        let chain =
            several("chain", &[task("x", json!([])), several("group", &[task("y", json!([])), task("z", json!([]))])]);
        let plan = plan(&chord(&[task("a", json!([])), chain], &task("sum", json!([]))), &[]);
        assert_eq!(plan.chords.len(), 1, "{plan:?}");
        assert_eq!(plan.chords[0].1, 3);
        assert_eq!(plan.messages.iter().map(|message| message.task.as_str()).collect::<Vec<_>>(), ["a", "x"]);
        // The group in the end makes the results nested: their structure is kept.
        assert_eq!(plan.saved.len(), 1);
        assert_eq!(plan.saved[0].0, plan.chords[0].0);
        let last = &option(&plan.messages[1], "chain")[0];
        assert_eq!(last["subtask_type"], "group");
        for part in last["kwargs"]["tasks"].as_array().unwrap() {
            assert_eq!(part["options"]["group_id"], json!(plan.chords[0].0));
            assert_eq!(part["options"]["chord"]["task"], "sum");
        }
    }

    #[test]
    fn a_chord_in_a_chord_counts_by_its_body() {
        let inner = chord(&[task("a", json!([])), task("b", json!([]))], &task("inner", json!([])));
        let plan = plan(&chord(&[inner, task("c", json!([]))], &task("outer", json!([]))), &[]);
        let sizes: Vec<usize> = plan.chords.iter().map(|(_, size)| *size).collect();
        assert_eq!(sizes, [2, 2], "{plan:?}");
        let a = &plan.messages[0];
        let body = option(a, "chord");
        assert_eq!((a.task.as_str(), body["task"].as_str()), ("a", Some("inner")));
        assert_eq!(body["options"]["chord"]["task"], "outer");
        let outer = option(&plan.messages[2], "group_id");
        assert_eq!(&body["options"]["group_id"], outer);
        assert_ne!(option(a, "group_id"), outer);
    }

    #[test]
    fn a_chord_without_a_header_runs_its_body() {
        let plan = plan(&chord(&[], &task("sum", json!([]))), &[]);
        let [message] = &plan.messages[..] else { panic!("{plan:?}") };
        assert_eq!((message.task.as_str(), &message.args), ("sum", &vec![json!([])]));
        assert!(plan.chords.is_empty());
    }

    #[test]
    fn options_of_a_group_go_to_all_its_tasks_and_keep_their_identifiers() {
        let mut value = several("group", &[task("a", json!([])), task("b", json!([]))]);
        value["options"] = json!({"task_id": "g1", "queue": "slow"});
        value["kwargs"]["tasks"][0]["options"] = json!({"task_id": "t1", "queue": "fast"});
        let plan = plan(&value, &[]);
        let [one, two] = &plan.messages[..] else { panic!("{plan:?}") };
        assert_eq!(one.id, "t1");
        assert_eq!((option(one, "group_id"), option(two, "group_id")), (&json!("g1"), &json!("g1")));
        assert_eq!((option(one, "queue"), option(two, "queue")), (&json!("slow"), &json!("slow")));
        assert!(plan.chords.is_empty(), "a plain group is not counted");
    }
}
