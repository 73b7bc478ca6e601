//! The drawing of all moves, held against the moves: what is drawn exists, and what exists is drawn.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Expr, FnArg, ImplItem, ImplItemFn, Item, Lit, PathArguments, ReturnType, Type, Visibility};

use super::{read, rust_files};

/// Moves that are not drawn, because they lead nowhere new by themselves.
const NOT_DRAWN: &[(&str, &str, &str)] = &[
    ("GrantRecord", "upstream_401_seen", "stays where it is, or goes by way of `end`"),
    (
        "Ended",
        "without_grant",
        "the other end of `CodeSpent` `replayed`, where no grant is there yet",
    ),
];

/// One method of a state or a record.
struct Move {
    public: bool,
    takes: Takes,
    /// What it returns first: of `Result<(State, ..), _>`, `(State, ..)` or `State`; `Self` spelled out.
    to: Option<String>,
    /// Whether that came in a pair, with an effect.
    with_effect: bool,
    /// What it builds with braces.
    builds: BTreeSet<String>,
    /// Where it stands.
    file: String,
}

/// What a method is called on.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// `self`, which is gone afterwards.
    State,
    /// `&self`.
    Look,
    /// Nothing: a birth.
    Nothing,
}

struct Machine {
    /// From, by, to.
    drawn: Vec<(String, String, String)>,
    /// Record by state.
    records: BTreeMap<String, String>,
    moves: BTreeMap<(String, String), Move>,
}

impl Machine {
    fn read() -> Self {
        Self::of(&read("src/flow/mod.rs"), &rust_files("src/flow"))
    }

    fn of(drawing: &str, files: &[(String, String)]) -> Self {
        let mut machine = Self {
            drawn: drawn(drawing),
            records: BTreeMap::new(),
            moves: BTreeMap::new(),
        };
        for (path, text) in files {
            for item in syn::parse_file(text).unwrap().items {
                match item {
                    Item::Macro(item) if item.mac.path.is_ident("states") => machine.states(&item.mac.tokens.to_string()),
                    Item::Impl(item) if item.trait_.is_none() => {
                        let Some(owner) = name_of(&item.self_ty) else { continue };
                        for part in &item.items {
                            if let ImplItem::Fn(method) = part {
                                let name = (owner.clone(), method.sig.ident.to_string());
                                machine.moves.insert(name, a_move(method, &owner, path));
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
    fn states(&mut self, tokens: &str) {
        let (record, states) = tokens.split_once(':').unwrap();
        for state in states.split(',').map(str::trim).filter(|state| !state.is_empty()) {
            self.records.insert(state.to_owned(), record.trim().to_owned());
        }
    }

    /// What is wrong with the drawing.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, arrow) in self.drawn.iter().enumerate() {
            let (from, by, to) = arrow;
            if self.drawn[..at].contains(arrow) {
                faults.push(format!("`{from} -{by}-> {to}` is drawn twice"));
            }
            if let Some(fault) = self.untrue(from, by, to) {
                faults.push(format!("`{from} -{by}-> {to}` is drawn, but {fault}"));
            }
        }
        for ((owner, by), found) in &self.moves {
            if let Some(fault) = self.undrawn(owner, by, found) {
                faults.push(format!(
                    "{}: `{owner}::{by}` {fault}: draw it in TRANSITIONS, src/flow/mod.rs",
                    found.file
                ));
            }
        }
        faults
    }

    fn untrue(&self, from: &str, by: &str, to: &str) -> Option<String> {
        if !self.records.contains_key(to) {
            return Some(format!("`{to}` is no state"));
        }
        let find = |owner: &str| self.moves.get(&(owner.to_owned(), by.to_owned())).filter(|found| found.public);
        if from == "[*]" {
            let found = find(to).filter(|found| found.takes == Takes::Nothing && found.to.as_deref() == Some(to));
            return found.is_none().then(|| format!("no public `{to}::{by}` makes one from nothing"));
        }
        let Some(record) = self.records.get(from) else {
            return Some(format!("`{from}` is no state"));
        };
        if let Some(found) = find(from) {
            // A move into another record is one of two records: this one stays, and says where to go.
            let crosses = self.records.get(to) != Some(record);
            return match (found.takes, found.to.as_deref()) {
                (Takes::State, Some(there)) if there == to => None,
                (Takes::Look, _) if crosses => None,
                (_, there) => Some(format!("`{from}::{by}` goes to `{}`", there.unwrap_or("no state"))),
            };
        }
        match find(record) {
            Some(found) if found.takes == Takes::State && found.to.as_ref() == Some(record) && found.builds.contains(to) => None,
            Some(_) => Some(format!("`{record}::{by}` makes no `{to}`")),
            None => Some(format!("neither `{from}` nor `{record}` has a public method `{by}`")),
        }
    }

    /// A state's own move, or birth, must be drawn; of a record's methods, those that have an effect.
    fn undrawn(&self, owner: &str, by: &str, found: &Move) -> Option<&'static str> {
        let to = found.to.as_deref()?;
        if !found.public || NOT_DRAWN.iter().any(|(o, b, _)| (*o, *b) == (owner, by)) {
            return None;
        }
        let is_state = self.records.contains_key(owner);
        let is_record = self.records.values().any(|record| record == owner);
        let drawn = |from: &str, to: &str| {
            self.drawn
                .iter()
                .any(|(f, b, t)| (f.as_str(), b.as_str(), t.as_str()) == (from, by, to))
        };
        if is_state && found.takes == Takes::State && self.records.contains_key(to) {
            return (!drawn(owner, to)).then_some("is a move that is not drawn");
        }
        if is_state && found.takes == Takes::Nothing && self.records.contains_key(to) {
            return (!drawn("[*]", to)).then_some("makes a state from nothing, and is not drawn");
        }
        if is_record && found.takes == Takes::State && found.with_effect && to == owner {
            let missing = |state: &String| self.records.get(state).map(String::as_str) == Some(owner) && !self.drawn_to(by, state);
            let any = self
                .drawn
                .iter()
                .any(|(from, b, _)| b == by && self.records.get(from).map(String::as_str) == Some(owner));
            return (!any || found.builds.iter().any(missing)).then_some("is a move that is not, or not wholly, drawn");
        }
        None
    }

    fn drawn_to(&self, by: &str, to: &str) -> bool {
        self.drawn.iter().any(|(_, b, t)| (b.as_str(), t.as_str()) == (by, to))
    }
}

fn drawn(text: &str) -> Vec<(String, String, String)> {
    struct Calls(Vec<(String, String, String)>);
    impl<'ast> Visit<'ast> for Calls {
        fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
            if item.ident == "TRANSITIONS" {
                visit::visit_item_const(self, item);
            }
        }

        fn visit_item_fn(&mut self, _: &'ast syn::ItemFn) {}

        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            let words: Vec<String> = call.args.iter().filter_map(word).collect();
            let [from, by, to] = words.try_into().unwrap();
            self.0.push((from, by, to));
        }
    }
    let mut calls = Calls(Vec::new());
    calls.visit_file(&syn::parse_file(text).unwrap());
    calls.0
}

fn word(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn a_move(method: &ImplItemFn, owner: &str, file: &str) -> Move {
    let receiver = method.sig.inputs.first().and_then(|first| match first {
        FnArg::Receiver(receiver) => Some(receiver),
        FnArg::Typed(_) => None,
    });
    let returned = match &method.sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some(&**ty),
    };
    let inner = returned.map(unwrapped);
    let first = inner.and_then(|ty| match ty {
        Type::Tuple(tuple) => tuple.elems.first(),
        other => Some(other),
    });
    let spelled = |name: String| if name == "Self" { owner.to_owned() } else { name };
    let mut builds = Builds {
        owner,
        found: BTreeSet::new(),
    };
    builds.visit_block(&method.block);
    Move {
        public: matches!(method.vis, Visibility::Public(_) | Visibility::Restricted(_)),
        takes: match receiver {
            Some(receiver) if receiver.reference.is_none() => Takes::State,
            Some(_) => Takes::Look,
            None => Takes::Nothing,
        },
        to: first.and_then(name_of).map(spelled),
        with_effect: matches!(inner, Some(Type::Tuple(_))),
        builds: builds.found,
        file: file.to_owned(),
    }
}

/// Of `Result<T, E>` and `Option<T>` the `T`.
fn unwrapped(ty: &Type) -> &Type {
    if let Type::Path(path) = ty
        && let Some(last) = path.path.segments.last()
        && (last.ident == "Result" || last.ident == "Option")
        && let PathArguments::AngleBracketed(inner) = &last.arguments
        && let Some(syn::GenericArgument::Type(inner)) = inner.args.first()
    {
        return inner;
    }
    ty
}

fn name_of(ty: &Type) -> Option<String> {
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
fn every_arrow_is_a_move_and_every_move_an_arrow() {
    let machine = Machine::read();
    assert!(machine.drawn.len() > 10, "only {} arrows found", machine.drawn.len());
    assert!(machine.records.len() > 5, "only {} states found", machine.records.len());
    let faults = machine.faults();
    assert!(faults.is_empty(), "the drawing and the moves differ:\n{}", faults.join("\n"));
}

#[test]
fn what_is_not_drawn_is_still_there() {
    let machine = Machine::read();
    for (owner, by, why) in NOT_DRAWN {
        let name = ((*owner).to_owned(), (*by).to_owned());
        assert!(
            machine.moves.contains_key(&name),
            "`{owner}::{by}` ({why}) is gone: take it out of NOT_DRAWN"
        );
    }
}

/// The twin: a drawing that is right, and the same with one thing wrong.
#[test]
fn a_wrong_drawing_is_refused() {
    const DRAWING: &str = r#"pub const TRANSITIONS: [Arrow; 5] = [transition("[*]", "new", "Shut"), transition("Shut", "open", "Open"),
        transition("Shut", "burn", "Gone"), transition("Open", "burn", "Gone"), transition("Open", "seen", "Told")];"#;
    const CODE: &str = "
        states!(Door: Shut, Open, Gone); states!(News: Told);
        impl Shut { pub fn new() -> Self { Self {} } pub fn open(self) -> Result<(Open, ()), No> { Ok((Open {}, ())) } }
        impl Open { pub fn seen(&self) -> Result<Id, No> { Ok(Id) } }
        impl Door { pub fn burn(self) -> (Self, u8) { (Gone {}.into(), 0) } pub fn noted(self) -> Self { self } }
    ";
    let faults = |drawing: &str, code: &str| Machine::of(drawing, &[("src/flow/door.rs".to_owned(), code.to_owned())]).faults();
    assert_eq!(faults(DRAWING, CODE), Vec::<String>::new());
    let told = |found: Vec<String>, words: &str| assert!(found.iter().any(|fault| fault.contains(words)), "{words}: {found:#?}");
    told(
        faults(&DRAWING.replace("\"open\"", "\"opened\""), CODE),
        "has a public method `opened`",
    );
    told(
        faults(&DRAWING.replace("\"open\"", "\"opened\""), CODE),
        "`Shut::open` is a move that is not drawn",
    );
    told(
        faults(&DRAWING.replace("\"Open\")", "\"Gone\")"), CODE),
        "`Shut::open` goes to `Open`",
    );
    told(faults(&DRAWING.replace("\"Told\"", "\"Tolled\""), CODE), "`Tolled` is no state");
    told(faults(&DRAWING.replace("\"seen\"", "\"open\""), CODE), "has a public method `open`");
    told(faults(&DRAWING.replace("\"new\"", "\"born\""), CODE), "no public `Shut::born`");
    told(
        faults(DRAWING, &CODE.replace("(Gone {}.into()", "(Open {}.into()")),
        "`Door::burn` makes no `Gone`",
    );
    told(
        faults(DRAWING, &CODE.replace("pub fn burn", "fn burn")),
        "has a public method `burn`",
    );
    told(
        faults(
            DRAWING,
            &CODE.replace("fn noted(self) -> Self { self", "fn noted(self) -> (Self, u8) { (self, 0)"),
        ),
        "`Door::noted`",
    );
    told(
        faults(
            DRAWING,
            &CODE.replace("impl Open {", "impl Open { pub fn forged() -> Self { Self {} }"),
        ),
        "from nothing",
    );
    told(
        faults(
            DRAWING,
            &CODE.replace("impl Open {", "impl Open { pub fn back(self) -> Result<(Shut, ()), No> { a }"),
        ),
        "`Open::back`",
    );
}
