//! The table of transitions, compared with the methods of the states.

use std::collections::{BTreeMap, BTreeSet};

use mcp_oauth_gateway::flow::TRANSITIONS;
use syn::visit::{self, Visit};
use syn::{FnArg, GenericArgument, ImplItem, ImplItemFn, Item, PathArguments, ReturnType, Type, Visibility};

use crate::modules::NOT_LISTED;
use crate::source::{names, rust_files};

/// State before, method, state after.
type Row<'t> = [&'t str; 3];

/// A public method of a state or a record.
struct Method {
    /// `true` for `self`, `false` for `&self`, `None` without either.
    consumes: Option<bool>,
    /// The first type of what it returns: of `Result<(State, ..), _>`, `(State, ..)` or `State`.
    to: String,
    /// Whether it returns a tuple: the next state and an effect.
    with_effect: bool,
    /// The structs that it builds.
    builds: BTreeSet<String>,
}

/// The table and the code.
struct Machine<'t> {
    rows: Vec<Row<'t>>,
    /// The record of each state.
    records: BTreeMap<String, String>,
    methods: BTreeMap<(String, String), Method>,
}

impl<'t> Machine<'t> {
    fn new(rows: Vec<Row<'t>>, code: &[String]) -> Self {
        let (records, methods) = (BTreeMap::new(), BTreeMap::new());
        let mut machine = Self { rows, records, methods };
        for item in code.iter().flat_map(|text| syn::parse_file(text).unwrap().items) {
            match item {
                Item::Macro(item) if item.mac.path.is_ident("states") => machine.add_states(&item.mac.tokens.to_string()),
                Item::Impl(item) if item.trait_.is_none() => {
                    for part in &item.items {
                        if let ImplItem::Fn(function) = part {
                            machine.add_method(&name(&item.self_ty), function);
                        }
                    }
                }
                _ => {}
            }
        }
        machine
    }

    /// `Record: State, State, ..`
    fn add_states(&mut self, tokens: &str) {
        let (record, states) = tokens.split_once(':').unwrap();
        for state in states.split(',').map(str::trim).filter(|state| !state.is_empty()) {
            self.records.insert(state.to_owned(), record.trim().to_owned());
        }
    }

    fn add_method(&mut self, owner: &str, function: &ImplItemFn) {
        let ReturnType::Type(_, returned) = &function.sig.output else {
            return;
        };
        let returned = success(returned);
        let first = match returned {
            Type::Tuple(tuple) => tuple.elems.first().map_or_else(String::new, name),
            other => name(other),
        };
        let mut builds = Builds(BTreeSet::new());
        builds.visit_block(&function.block);
        let own = |name: String| if name == "Self" { owner.to_owned() } else { name };
        let method = Method {
            consumes: match function.sig.inputs.first() {
                Some(FnArg::Receiver(receiver)) => Some(receiver.reference.is_none()),
                Some(FnArg::Typed(_)) | None => None,
            },
            to: own(first),
            with_effect: matches!(returned, Type::Tuple(_)),
            builds: builds.0.into_iter().map(own).collect(),
        };
        if !matches!(function.vis, Visibility::Inherited) {
            self.methods.insert((owner.to_owned(), function.sig.ident.to_string()), method);
        }
    }

    /// The differences between table and code.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, [from, by, to]) in self.rows.iter().enumerate() {
            if self.rows[..at].contains(&self.rows[at]) {
                found.push(format!("`{from} -{by}-> {to}` is listed twice"));
            }
            if !self.is_in_code(from, by, to) {
                found.push(format!("`{from} -{by}-> {to}` is listed, but no public method does it"));
            }
        }
        for ((owner, by), method) in &self.methods {
            let is_known = NOT_LISTED.iter().any(|(o, b, _)| (o, b) == (&owner.as_str(), &by.as_str()));
            if !is_known && !self.is_in_table(owner, by, method) {
                found.push(format!("`{owner}::{by}` is not completely listed in TRANSITIONS, src/flow/mod.rs"));
            }
        }
        found
    }

    fn is_in_code(&self, from: &str, by: &str, to: &str) -> bool {
        let find = |owner: &str| self.methods.get(&(owner.to_owned(), by.to_owned()));
        let Some(target) = self.records.get(to) else { return false };
        if from == "[*]" {
            return find(to).is_some_and(|method| method.consumes.is_none() && method.to == to);
        }
        let Some(record) = self.records.get(from) else { return false };
        match (find(from), find(record)) {
            // A transition into another record leaves this one as it is.
            (Some(method), _) => match method.consumes {
                Some(true) => method.to == to,
                Some(false) => record != target,
                None => false,
            },
            (None, Some(method)) => method.consumes == Some(true) && method.to == *record && method.builds.contains(to),
            (None, None) => false,
        }
    }

    /// Each method that makes a state from a state or from nothing is listed, and each method of a
    /// record that has an effect.
    fn is_in_table(&self, owner: &str, by: &str, method: &Method) -> bool {
        let rows: Vec<&Row<'_>> = self.rows.iter().filter(|row| row[1] == by).collect();
        if self.records.contains_key(owner) && self.records.contains_key(&method.to) {
            let from = if method.consumes.is_none() { "[*]" } else { owner };
            return method.consumes == Some(false) || rows.iter().any(|row| row[0] == from && row[2] == method.to);
        }
        let is_own = |state: &str| self.records.get(state).is_some_and(|record| record == owner);
        let is_transition = self.records.values().any(|record| record == owner) && method.consumes == Some(true);
        if !is_transition || !method.with_effect || method.to != owner {
            return true;
        }
        let is_listed = |state: &String| !is_own(state) || rows.iter().any(|row| row[2] == *state);
        rows.iter().any(|row| is_own(row[0])) && method.builds.iter().all(is_listed)
    }
}

/// The `T` of `Result<T, E>` and `Option<T>`.
fn success(ty: &Type) -> &Type {
    if let Type::Path(path) = ty
        && let Some(last) = path.path.segments.last()
        && (last.ident == "Result" || last.ident == "Option")
        && let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(inner)) = arguments.args.first()
    {
        return inner;
    }
    ty
}

fn name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => names(&path.path).pop().unwrap_or_default(),
        _ => String::new(),
    }
}

struct Builds(BTreeSet<String>);

impl<'ast> Visit<'ast> for Builds {
    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        self.0.extend(names(&expr.path).pop());
        visit::visit_expr_struct(self, expr);
    }
}

#[test]
fn the_table_of_transitions_and_the_methods_agree() {
    let code: Vec<String> = rust_files("src/flow").into_iter().map(|(_, text)| text).collect();
    let machine = Machine::new(TRANSITIONS.map(|row| [row.from, row.by, row.to]).to_vec(), &code);
    assert!(machine.rows.len() > 10 && machine.records.len() > 5);
    assert_eq!(machine.differences(), Vec::<String>::new());
    for (owner, by, reason) in NOT_LISTED {
        let exists = machine.methods.contains_key(&((*owner).to_owned(), (*by).to_owned()));
        assert!(exists, "`{owner}::{by}` ({reason}) does not exist: remove it from NOT_LISTED");
    }
}

#[test]
fn a_wrong_table_of_transitions_is_refused() {
    const CODE: &str = "
        states!(Door: Shut, Open, Gone); states!(Bell: Rung);
        impl Shut { pub fn new() -> Self { Self {} } pub fn opened(self) -> Result<(Open, ()), No> { Ok((Open {}, ())) } }
        impl Open { pub fn seen(&self) -> Result<Id, No> { Ok(Id) } }
        impl Door { pub fn burnt(self) -> (Self, u8) { (Gone {}.into(), 0) } pub fn noted(self) -> Self { self } }
    ";
    const TABLE: &str = "[*] new Shut, Shut opened Open, Shut burnt Gone, Open burnt Gone, Open seen Rung";
    // What is replaced in table and code, and the difference.
    let cases = [
        (" opened ", " closed ", "`Shut -closed-> Open` is listed, but"),
        (" opened ", " closed ", "`Shut::opened` is not"),
        (" opened Open", " opened Gone", "`Shut -opened-> Gone` is listed, but"),
        ("seen Rung", "seen Bell", "`Open -seen-> Bell` is listed, but"),
        (" seen ", " heard ", "`Open -heard-> Rung` is listed, but"),
        (" new ", " made ", "`[*] -made-> Shut` is listed, but"),
        ("Shut burnt", "Open burnt", "is listed twice"),
        ("(Gone {}.into()", "(Open {}.into()", "`Open -burnt-> Gone` is listed, but"),
        ("pub fn burnt", "fn burnt", "`Open -burnt-> Gone` is listed, but"),
        (
            "noted(self) -> Self { self",
            "noted(self) -> (Self, u8) { (self, 0)",
            "`Door::noted` is not",
        ),
        (
            "impl Open {",
            "impl Open { pub fn forged() -> Self { Self {} }",
            "`Open::forged` is not",
        ),
        ("impl Open {", "impl Open { pub fn back(self) -> Shut { a }", "`Open::back` is not"),
    ];
    let differences = |right: &str, wrong: &str| {
        let (table, code) = (TABLE.replace(right, wrong), CODE.replace(right, wrong));
        let rows = table.split(", ").map(|row| row.split(' ').collect::<Vec<_>>().try_into().unwrap());
        Machine::new(rows.collect(), &[code]).differences()
    };
    assert_eq!(differences("nothing", ""), Vec::<String>::new());
    for (right, wrong, message) in cases {
        let found = differences(right, wrong);
        assert!(found.iter().any(|text| text.contains(message)), "{message}: {found:#?}");
    }
}
