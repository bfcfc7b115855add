//! Functions as a caller sees them: the arguments that are given, and what comes back.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::{Function, Name, Parameter, Returns, Volatility};
use super::describe::Description;
use super::names::Names;
use super::read;

/// Settings of a function that are taken over for the whole transaction, because within the function they come too late.
const HOISTED: [&str; 3] = ["statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"];

/// Types of a function's only argument, when that has no name: it takes a request's body.
const WHOLE: [&str; 5] = ["bytea", "json", "jsonb", "text", "xml"];

/// One argument of any mode.
struct Argument<'a> {
    name: &'a str,
    type_oid: u32,
    mode: &'a str,
}

/// The functions that can be called, overloads together and in a stable order. One is left out when a caller could not
/// name its arguments.
pub(super) fn callable(
    functions: &[read::Function],
    description: &Description<'_>,
    names: &mut Names,
) -> HashMap<Name, Vec<Arc<Function>>> {
    let mut found: HashMap<Name, Vec<Arc<Function>>> = HashMap::new();
    for function in functions {
        let name = names.name(&function.schema, &function.name);
        if let Some(function) = build(function, name, description, names) {
            found.entry(function.name.clone()).or_default().push(Arc::new(function));
        }
    }
    for overloads in found.values_mut() {
        overloads.sort_by(|a, b| {
            let list = |function: &Arc<Function>| -> Vec<(Arc<str>, Box<str>)> {
                let pair = |parameter: &Parameter| (parameter.name.clone(), parameter.type_name.clone());
                function.parameters.iter().map(pair).collect()
            };
            let lengths = a.parameters.len().cmp(&b.parameters.len());
            lengths.then_with(|| a.comment.cmp(&b.comment)).then_with(|| list(a).cmp(&list(b)))
        });
    }
    found
}

fn build(function: &read::Function, name: Name, description: &Description<'_>, names: &mut Names) -> Option<Function> {
    let arguments = arguments(function);
    let given: Vec<&Argument<'_>> =
        arguments.iter().filter(|argument| matches!(argument.mode, "i" | "b" | "v")).collect();
    let unnamed: Vec<&&Argument<'_>> = given.iter().filter(|argument| argument.name.is_empty()).collect();
    match unnamed.as_slice() {
        [] => {}
        [only] if given.len() == 1 && WHOLE.contains(&&*description.of_type(only.type_oid)?.name) => {}
        _ => return None,
    }
    let required = given.len().saturating_sub(function.defaults.max(0) as usize);
    let parameter = |(at, argument): (usize, &&Argument<'_>)| {
        let type_name = description.of_type(argument.type_oid)?.name.as_str();
        Some(Parameter {
            name: names.keep(argument.name),
            type_name: type_name.into(),
            record_type: without_length(type_name).into(),
            required: at < required,
            variadic: argument.mode == "v",
        })
    };
    let parameters = given.iter().enumerate().map(parameter).collect::<Option<Vec<_>>>()?;
    let returns = returns(function, &arguments, description, names)?;
    Some(Function {
        name,
        comment: description.of_function(function.oid),
        parameters,
        returns_set: function.set,
        returns,
        volatility: match function.volatility.as_str() {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        settings: function.settings.iter().filter_map(|setting| hoisted(setting)).collect(),
    })
}

/// All arguments. Where some are results, `all` has the types of every one; names and modes follow it.
fn arguments(function: &read::Function) -> Vec<Argument<'_>> {
    let types = function.all.as_ref().unwrap_or(&function.inputs);
    let argument = |(at, type_oid): (usize, &u32)| Argument {
        name: function.names.get(at).map_or("", String::as_str),
        type_oid: *type_oid,
        mode: function.modes.get(at).map_or("i", String::as_str),
    };
    types.iter().enumerate().map(argument).collect()
}

/// A type for a record's definition, where `character` and `bit` mean a length of 1 and would cut values off.
fn without_length(type_name: &str) -> &str {
    match type_name {
        "bit" => "bit varying",
        "bit[]" => "bit varying[]",
        "character" => "character varying",
        "character[]" => "character varying[]",
        other => other,
    }
}

fn returns(
    function: &read::Function,
    arguments: &[Argument<'_>],
    description: &Description<'_>,
    names: &mut Names,
) -> Option<Returns> {
    let mut columns = Vec::new();
    for argument in arguments.iter().filter(|argument| matches!(argument.mode, "o" | "b" | "t")) {
        columns.push((names.keep(argument.name), description.of_type(argument.type_oid)?.name.as_str().into()));
    }
    if !columns.is_empty() {
        // Results without a name are called by their place.
        for (at, (name, _)) in columns.iter_mut().enumerate().filter(|(_, (name, _))| name.is_empty()) {
            *name = names.keep(&format!("column{}", at + 1));
        }
        return Some(Returns::Columns(columns));
    }
    let result = description.of_type(function.result)?;
    Some(match (result.base_name.as_str(), &result.composite) {
        ("void", _) => Returns::Void,
        ("record", _) => Returns::Record,
        (_, Some((schema, name))) => Returns::Composite(names.name(schema, name)),
        _ => Returns::Scalar(result.name.as_str().into()),
    })
}

fn hoisted(setting: &str) -> Option<(Box<str>, Box<str>)> {
    let (name, value) = setting.split_once('=')?;
    HOISTED.contains(&name).then(|| (name.into(), value.into()))
}
