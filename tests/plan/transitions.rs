//! The table of transitions, compared with the methods of the states.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Expr, FnArg, GenericArgument, ImplItem, ImplItemFn, Item, Lit, PathArguments, ReturnType, Type, Visibility};

use crate::modules::{NOT_LISTED, TRANSITIONS};
use crate::source::rust_files;

/// One method of a state or a record.
struct Method {
    public: bool,
    receiver: Receiver,
    /// The first type of what it returns: of `Result<(State, ..), _>`, `(State, ..)` or `State`.
    to: Option<String>,
    /// Whether it returns a tuple: the next state and an effect.
    with_effect: bool,
    /// The structs that it builds.
    builds: BTreeSet<String>,
    file: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Receiver {
    /// `self`
    Owned,
    /// `&self`
    Borrowed,
    None,
}

/// A row of the table: state before, method, state after.
type Row = (String, String, String);

struct Machine {
    rows: Vec<Row>,
    /// The record of each state.
    records: BTreeMap<String, String>,
    methods: BTreeMap<(String, String), Method>,
}

impl Machine {
    fn new(table: &str, files: &[(String, String)]) -> Self {
        let mut rows = Rows(Vec::new());
        rows.visit_file(&syn::parse_file(table).unwrap());
        let mut machine = Self {
            rows: rows.0,
            records: BTreeMap::new(),
            methods: BTreeMap::new(),
        };
        for (path, text) in files {
            for item in syn::parse_file(text).unwrap().items {
                match item {
                    Item::Macro(item) if item.mac.path.is_ident("states") => machine.add_states(&item.mac.tokens.to_string()),
                    Item::Impl(item) if item.trait_.is_none() => {
                        let Some(owner) = type_name(&item.self_ty) else { continue };
                        for part in &item.items {
                            if let ImplItem::Fn(function) = part {
                                let key = (owner.clone(), function.sig.ident.to_string());
                                machine.methods.insert(key, method(function, &owner, path));
                            }
                        }
                    }
                    _ => {}
                }
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

    fn has_row(&self, from: &str, by: &str, to: &str) -> bool {
        self.rows
            .iter()
            .any(|(f, b, t)| (f.as_str(), b.as_str(), t.as_str()) == (from, by, to))
    }

    fn record(&self, state: &str) -> Option<&str> {
        self.records.get(state).map(String::as_str)
    }

    /// The differences between table and code.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let (from, by, to) = row;
            if self.rows[..at].contains(row) {
                found.push(format!("`{from} -{by}-> {to}` is listed twice"));
            }
            if let Some(reason) = self.not_in_code(from, by, to) {
                found.push(format!("`{from} -{by}-> {to}` is listed, but {reason}"));
            }
        }
        for ((owner, by), method) in &self.methods {
            if let Some(what) = self.not_in_table(owner, by, method) {
                found.push(format!(
                    "{}: `{owner}::{by}` {what}: add it to {TRANSITIONS} in src/flow/mod.rs",
                    method.file
                ));
            }
        }
        found
    }

    fn not_in_code(&self, from: &str, by: &str, to: &str) -> Option<String> {
        if !self.records.contains_key(to) {
            return Some(format!("`{to}` is no state"));
        }
        let find = |owner: &str| self.methods.get(&(owner.to_owned(), by.to_owned())).filter(|method| method.public);
        if from == "[*]" {
            let found = find(to).filter(|method| method.receiver == Receiver::None && method.to.as_deref() == Some(to));
            return found.is_none().then(|| format!("no public `{to}::{by}` makes one from nothing"));
        }
        let Some(record) = self.record(from) else {
            return Some(format!("`{from}` is no state"));
        };
        if let Some(method) = find(from) {
            // A transition into another record leaves this one as it is.
            let crosses = self.record(to) != Some(record);
            return match (method.receiver, method.to.as_deref()) {
                (Receiver::Owned, Some(next)) if next == to => None,
                (Receiver::Borrowed, _) if crosses => None,
                (_, next) => Some(format!("`{from}::{by}` returns `{}`", next.unwrap_or("no state"))),
            };
        }
        match find(record) {
            Some(method) if method.receiver == Receiver::Owned && method.to.as_deref() == Some(record) && method.builds.contains(to) => {
                None
            }
            Some(_) => Some(format!("`{record}::{by}` makes no `{to}`")),
            None => Some(format!("neither `{from}` nor `{record}` has a public method `{by}`")),
        }
    }

    /// Each method that makes a state from a state or from nothing is listed, and each method of a
    /// record that has an effect.
    fn not_in_table(&self, owner: &str, by: &str, method: &Method) -> Option<&'static str> {
        let to = method.to.as_deref()?;
        if !method.public || NOT_LISTED.iter().any(|(o, b, _)| (*o, *b) == (owner, by)) {
            return None;
        }
        if self.records.contains_key(owner) && self.records.contains_key(to) {
            return match method.receiver {
                Receiver::Owned => (!self.has_row(owner, by, to)).then_some("is a transition that is not listed"),
                Receiver::None => (!self.has_row("[*]", by, to)).then_some("makes a state from nothing and is not listed"),
                Receiver::Borrowed => None,
            };
        }
        let is_record = self.records.values().any(|record| record == owner);
        if is_record && method.receiver == Receiver::Owned && method.with_effect && to == owner {
            let rows = || self.rows.iter().filter(|(_, b, _)| b == by);
            let any = rows().any(|(from, ..)| self.record(from) == Some(owner));
            let is_missing = |state: &String| self.record(state) == Some(owner) && !rows().any(|(.., t)| t == state);
            return (!any || method.builds.iter().any(is_missing)).then_some("is a transition that is not, or not completely, listed");
        }
        None
    }
}

/// The calls with three texts in the constant [`TRANSITIONS`].
struct Rows(Vec<Row>);

impl<'ast> Visit<'ast> for Rows {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        if item.ident == TRANSITIONS {
            visit::visit_item_const(self, item);
        }
    }

    fn visit_item_fn(&mut self, _: &'ast syn::ItemFn) {}

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        let texts: Vec<String> = call.args.iter().filter_map(text).collect();
        let [from, by, to] = texts.try_into().unwrap();
        self.0.push((from, by, to));
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn method(function: &ImplItemFn, owner: &str, file: &str) -> Method {
    let receiver = match function.sig.inputs.first() {
        Some(FnArg::Receiver(receiver)) if receiver.reference.is_none() => Receiver::Owned,
        Some(FnArg::Receiver(_)) => Receiver::Borrowed,
        Some(FnArg::Typed(_)) | None => Receiver::None,
    };
    let returned = match &function.sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some(success(ty)),
    };
    let first = returned.and_then(|ty| match ty {
        Type::Tuple(tuple) => tuple.elems.first(),
        other => Some(other),
    });
    let mut builds = Builds {
        owner,
        found: BTreeSet::new(),
    };
    builds.visit_block(&function.block);
    Method {
        public: !matches!(function.vis, Visibility::Inherited),
        receiver,
        to: first
            .and_then(type_name)
            .map(|name| if name == "Self" { owner.to_owned() } else { name }),
        with_effect: matches!(returned, Some(Type::Tuple(_))),
        builds: builds.found,
        file: file.to_owned(),
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

fn type_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|part| part.ident.to_string()),
        _ => None,
    }
}

struct Builds<'a> {
    owner: &'a str,
    found: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Builds<'_> {
    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        if let Some(part) = expr.path.segments.last() {
            let name = part.ident.to_string();
            self.found.insert(if name == "Self" { self.owner.to_owned() } else { name });
        }
        visit::visit_expr_struct(self, expr);
    }
}

#[test]
fn the_table_of_transitions_and_the_methods_agree() {
    let files = rust_files("src/flow");
    let table = files.iter().find(|(path, _)| path == "src/flow/mod.rs").unwrap();
    let machine = Machine::new(&table.1, &files);
    assert!(machine.rows.len() > 10, "{TRANSITIONS} has {} rows", machine.rows.len());
    assert!(machine.records.len() > 5, "{} states found", machine.records.len());
    let differences = machine.differences();
    assert!(differences.is_empty(), "the table and the code differ:\n{}", differences.join("\n"));
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
    let table = format!(
        r#"pub const {TRANSITIONS}: [Transition; 5] = [row("[*]", "new", "Shut"), row("Shut", "opened", "Open"),
        row("Shut", "burnt", "Gone"), row("Open", "burnt", "Gone"), row("Open", "seen", "Rung")];"#
    );
    let differences = |table: &str, code: &str| Machine::new(table, &[("src/flow/door.rs".to_owned(), code.to_owned())]).differences();
    assert_eq!(differences(&table, CODE), Vec::<String>::new());
    let in_table = [
        ("\"opened\"", "\"closed\"", "has a public method `closed`"),
        ("\"opened\"", "\"closed\"", "`Shut::opened` is a transition that is not listed"),
        ("\"Open\")", "\"Gone\")", "`Shut::opened` returns `Open`"),
        ("\"Rung\"", "\"Bell\"", "`Bell` is no state"),
        ("\"seen\"", "\"heard\"", "has a public method `heard`"),
        ("\"new\"", "\"made\"", "no public `Shut::made`"),
        ("row(\"Shut\", \"burnt\"", "row(\"Open\", \"burnt\"", "is listed twice"),
    ];
    for (right, wrong, message) in in_table {
        let found = differences(&table.replace(right, wrong), CODE);
        assert!(found.iter().any(|difference| difference.contains(message)), "{message}: {found:#?}");
    }
    let in_code = [
        ("(Gone {}.into()", "(Open {}.into()", "`Door::burnt` makes no `Gone`"),
        ("pub fn burnt", "fn burnt", "has a public method `burnt`"),
        (
            "fn noted(self) -> Self { self",
            "fn noted(self) -> (Self, u8) { (self, 0)",
            "`Door::noted`",
        ),
        ("impl Open {", "impl Open { pub fn forged() -> Self { Self {} }", "from nothing"),
        (
            "impl Open {",
            "impl Open { pub fn back(self) -> Result<(Shut, ()), No> { a }",
            "`Open::back`",
        ),
    ];
    for (right, wrong, message) in in_code {
        let found = differences(&table, &CODE.replace(right, wrong));
        assert!(found.iter().any(|difference| difference.contains(message)), "{message}: {found:#?}");
    }
}
