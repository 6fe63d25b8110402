//! Finds every use that a script makes of `event` and `ctx`.
//!
//! The analysis is sound: a path is projected only where the script names it as a plain chain of
//! properties. Every other use of a value, and every construct that this module does not know, counts as
//! a use of the whole value. It walks the tree itself because `AST::walk` leaves out the value of `break`.

use rhai::{AST, ASTFlags, ASTNode, BinaryExpr, Expr, FlowControl, Position, Stmt};

use super::projection::Projection;

/// The fields of `event`, in the order of a native map.
pub(super) const EVENT_FIELDS: [&str; 6] = ["data", "error", "id", "meta", "subject", "timestamp"];
/// The fields of `ctx`.
pub(super) const CTX_FIELDS: [&str; 3] = ["cache", "meta", "resource"];
/// The fields of `event` that a script cannot change, but that it can clear its error.
const FIXED_FIELDS: [&str; 2] = ["error", "timestamp"];

/// What a script uses.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// What of `event.data`, if any.
    pub(super) data: Option<Projection>,
    /// The other fields of `event`.
    pub(super) id: bool,
    pub(super) subject: bool,
    pub(super) meta: bool,
    pub(super) timestamp: bool,
    pub(super) error: bool,
    /// The fields of `ctx`.
    pub(super) ctx_meta: bool,
    pub(super) ctx_resource: bool,
    pub(super) ctx_cache: bool,
    /// Whether anything that it names is called `resource`: without that `ctx` as a whole is of no file.
    pub(super) names_resource: bool,
    /// Where the script names `ctx.cache` first.
    pub(super) cache: Option<Position>,
    /// Whether the name `event` may stand for something else in places.
    pub(super) is_shadowed: bool,
    /// Where the script changes `event` first.
    pub(super) change: Option<Position>,
    /// What it uses that it must not.
    pub(super) faults: Vec<Fault>,
}

/// A use of `event` or `ctx` that cannot be right.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) position: Position,
    pub(super) kind: FaultKind,
}

#[derive(Debug)]
pub(super) enum FaultKind {
    /// `event` or `ctx` has no such field.
    Unknown { root: &'static str, field: String },
    /// The field cannot be changed.
    Fixed(String),
}

impl Uses {
    /// Reads all statements and functions of a script.
    pub(super) fn of(ast: &AST) -> Self {
        let mut walker = Walker { uses: Self::default(), is_in_function: false };
        walker.statements(ast.statements());
        // The walk visits the statements of the script first and then those of its functions.
        let mut top_level = ast.statements().len();
        walker.is_in_function = true;
        ast.walk(&mut |path| {
            if let [ASTNode::Stmt(statement)] = path {
                match top_level {
                    0 => walker.statement(statement),
                    _ => top_level -= 1,
                }
            }
            true
        });
        let mut uses = walker.uses;
        if uses.is_shadowed {
            uses.faults.clear();
        }
        uses
    }

    /// Uses `event` with all that is in it.
    pub(super) fn whole_event(&mut self) {
        self.data = Some(Projection::Whole);
        (self.id, self.subject, self.meta, self.timestamp, self.error) = (true, true, true, true, true);
    }

    /// Returns whether the script needs a variable `event`.
    pub(super) fn event(&self) -> bool {
        self.data.is_some() || self.id || self.subject || self.meta || self.timestamp || self.error
    }

    /// Returns whether it needs nothing but `event.data`.
    pub(super) fn is_data_only(&self) -> bool {
        self.data.is_some() && !(self.id || self.subject || self.meta || self.timestamp || self.error)
    }

    /// Uses `ctx` with all that is in it.
    fn whole_ctx(&mut self) {
        (self.ctx_meta, self.ctx_resource, self.ctx_cache) = (true, true, true);
    }

    /// Returns whether the script needs a variable `ctx`.
    pub(super) fn ctx(&self) -> bool {
        self.ctx_meta || self.ctx_resource || self.ctx_cache
    }
}

struct Walker {
    uses: Uses,
    is_in_function: bool,
}

/// What `expression` starts with, if that is one of the script's variables.
fn root_of(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::Variable(variable, ..) if variable.1 == "event" => Some("event"),
        Expr::Variable(variable, ..) if variable.1 == "ctx" => Some("ctx"),
        _ => None,
    }
}

/// Returns whether an expression is `event.error`, and nothing further down.
fn is_error_of_event(expression: &Expr) -> bool {
    let Some((link, _, true)) = link_of(expression) else { return false };
    let is_error = matches!(&link.rhs, Expr::Property(property, _) if property.2 == "error");
    is_error && root_of(&link.lhs) == Some("event")
}

/// The value of a statement in result position, if it is an expression.
pub(super) fn result_expression(statement: &Stmt) -> Option<&Expr> {
    match statement {
        Stmt::Expr(expression) => Some(expression),
        Stmt::Return(Some(expression), flags, _) if !flags.intersects(ASTFlags::BREAK) => Some(expression),
        _ => None,
    }
}

impl Walker {
    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn flow(&mut self, flow: &FlowControl) {
        self.expression(&flow.expr);
        self.statements(flow.body.statements());
        self.statements(flow.branch.statements());
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Noop(_) | Stmt::BreakLoop(None, ..) | Stmt::Return(None, ..) => {}
            Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..) => self.flow(flow),
            Stmt::TryCatch(flow, _) => {
                if let Expr::Variable(variable, ..) = &flow.expr {
                    self.bind(&variable.1);
                }
                self.statements(flow.body.statements());
                self.statements(flow.branch.statements());
            }
            Stmt::Switch(switch, _) => {
                self.expression(&switch.0);
                for case in &switch.1.expressions {
                    self.expression(&case.lhs);
                    self.expression(&case.rhs);
                }
            }
            Stmt::For(each, _) => {
                self.bind(&each.0.name);
                each.1.iter().for_each(|counter| self.bind(&counter.name));
                self.flow(&each.2);
            }
            Stmt::Var(variable, ..) => {
                self.bind(&variable.0.name);
                self.expression(&variable.1);
            }
            Stmt::Assignment(assignment) => {
                let is_clearing = !assignment.0.is_op_assignment()
                    && is_error_of_event(&assignment.1.lhs)
                    && matches!(assignment.1.rhs, Expr::Unit(_));
                if is_clearing {
                    self.changed(&assignment.1.lhs);
                } else {
                    self.assigned(&assignment.1.lhs);
                }
                self.expression(&assignment.1.lhs);
                self.expression(&assignment.1.rhs);
            }
            Stmt::FnCall(call, _) => call.args.iter().for_each(|argument| self.expression(argument)),
            Stmt::Block(block) => self.statements(block.statements()),
            Stmt::Expr(expression)
            | Stmt::BreakLoop(Some(expression), ..)
            | Stmt::Return(Some(expression), ..) => self.expression(expression),
            Stmt::Share(captured) => {
                captured.iter().for_each(|(name, _)| self.variable(&name.name, name.pos));
            }
            _ => self.everything(),
        }
    }

    fn expression(&mut self, expression: &Expr) {
        match expression {
            Expr::DynamicConstant(..)
            | Expr::BoolConstant(..)
            | Expr::IntegerConstant(..)
            | Expr::FloatConstant(..)
            | Expr::CharConstant(..)
            | Expr::StringConstant(..)
            | Expr::Unit(_)
            | Expr::ThisPtr(_)
            | Expr::Property(..) => {}
            Expr::Variable(variable, ..) => self.variable(&variable.1, expression.position()),
            Expr::InterpolatedString(parts, _) | Expr::Array(parts, _) => {
                parts.iter().for_each(|part| self.expression(part));
            }
            Expr::Map(literal, _) => literal.0.iter().for_each(|(_, value)| self.expression(value)),
            Expr::MethodCall(call, _) | Expr::FnCall(call, _) => {
                call.args.iter().for_each(|argument| self.expression(argument));
            }
            Expr::Stmt(block) => self.statements(block.statements()),
            Expr::Dot(..) | Expr::Index(..) => self.chain(expression),
            Expr::And(parts, _) | Expr::Or(parts, _) | Expr::Coalesce(parts, _) => {
                parts.iter().for_each(|part| self.expression(part));
            }
            _ => self.everything(),
        }
    }

    /// A chain leans to the right: `a.b[c].d` is `a` and then `b`, `c` and `d`, each the left-hand side
    /// of what follows. After a `BREAK` the right-hand side is the last step.
    fn chain(&mut self, expression: &Expr) {
        let Some((mut link, mut flags, mut is_dot)) = link_of(expression) else { return };
        let root = root_of(&link.lhs);
        if root.is_none() {
            self.expression(&link.lhs);
        }
        let (mut path, mut is_plain): (Vec<&str>, bool) = (Vec::new(), true);
        let mut field_position = Position::NONE;
        loop {
            let next = if flags.intersects(ASTFlags::BREAK) { None } else { link_of(&link.rhs) };
            let step = next.map_or(&link.rhs, |(next, ..)| &next.lhs);
            if path.is_empty() {
                field_position = step.position();
            }
            self.uses.names_resource |= matches!(step, Expr::Property(property, _) if property.2 == "resource")
                || matches!(step, Expr::StringConstant(key, _) if key == "resource");
            match step {
                Expr::Property(property, _) if is_dot && is_plain => path.push(property.2.as_str()),
                Expr::StringConstant(key, _) if !is_dot && is_plain => path.push(key.as_str()),
                step => {
                    is_plain = false;
                    self.expression(step);
                }
            }
            match next {
                Some((next, next_flags, next_is_dot)) => {
                    (link, flags, is_dot) = (next, next_flags, next_is_dot);
                }
                None => break,
            }
        }
        match root {
            Some("event") => self.event_path(&path, field_position),
            Some(_) => self.ctx_path(&path, field_position),
            None => {}
        }
    }

    fn event_path(&mut self, path: &[&str], position: Position) {
        let uses = &mut self.uses;
        match path.split_first() {
            Some((&"data", rest)) => {
                uses.data.get_or_insert_with(|| Projection::Fields(Vec::new())).add(rest);
            }
            Some((&"id", _)) => uses.id = true,
            Some((&"subject", _)) => uses.subject = true,
            Some((&"meta", _)) => uses.meta = true,
            Some((&"timestamp", _)) => uses.timestamp = true,
            Some((&"error", _)) => uses.error = true,
            Some((field, _)) => self.unknown("event", field, position),
            None => uses.whole_event(),
        }
    }

    fn ctx_path(&mut self, path: &[&str], position: Position) {
        match path.first() {
            Some(&"meta") => self.uses.ctx_meta = true,
            Some(&"resource") => self.uses.ctx_resource = true,
            Some(&"cache") => {
                self.uses.ctx_cache = true;
                self.uses.cache.get_or_insert(position);
            }
            Some(field) => self.unknown("ctx", field, position),
            None => self.uses.whole_ctx(),
        }
    }

    /// In a function the name is that of a parameter, which may hold anything.
    fn unknown(&mut self, root: &'static str, field: &str, position: Position) {
        if !self.is_in_function {
            let kind = FaultKind::Unknown { root, field: field.to_owned() };
            self.uses.faults.push(Fault { position, kind });
        }
    }

    fn variable(&mut self, name: &str, position: Position) {
        match name {
            "event" => self.event_path(&[], position),
            "ctx" => self.ctx_path(&[], position),
            _ => {}
        }
    }

    fn bind(&mut self, name: &str) {
        self.uses.is_shadowed |= name == "event" || name == "ctx";
    }

    fn assigned(&mut self, target: &Expr) {
        let root = link_of(target).map_or_else(|| root_of(target), |(link, ..)| root_of(&link.lhs));
        if root != Some("event") || self.is_in_function {
            return;
        }
        self.changed(target);
        if let Some((link, ..)) = link_of(target)
            && let step = link_of(&link.rhs).map_or(&link.rhs, |(next, ..)| &next.lhs)
            && let Expr::Property(property, position) = step
            && FIXED_FIELDS.contains(&property.2.as_str())
        {
            let kind = FaultKind::Fixed(property.2.to_string());
            self.uses.faults.push(Fault { position: *position, kind });
        }
    }

    fn changed(&mut self, target: &Expr) {
        if !self.is_in_function {
            self.uses.change.get_or_insert(target.start_position());
        }
    }

    fn everything(&mut self) {
        self.uses.whole_event();
        self.uses.whole_ctx();
        self.uses.is_shadowed = true;
    }
}

fn link_of(expression: &Expr) -> Option<(&BinaryExpr, ASTFlags, bool)> {
    match expression {
        Expr::Dot(link, flags, _) => Some((link, *flags, true)),
        Expr::Index(link, flags, _) => Some((link, *flags, false)),
        _ => None,
    }
}
