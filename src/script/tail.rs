//! Results that are the event itself.
//!
//! Scripts usually end in `event` or `event.data`. In result position that only says "go on with the
//! event"; it would be a waste to convert and copy all of it for that. Such an expression is replaced by
//! a marker, and is no use of the value any more.

use rhai::{AST, ASTFlags, Dynamic, Expr, Position, Stmt, StmtBlock};

/// The tag of the native map that is the whole event. Kept by every copy of it.
pub(super) const EVENT_TAG: i32 = 0x4556_454e;
const FORWARD_EVENT_TAG: i32 = 0x4556_4601;
const FORWARD_DATA_TAG: i32 = 0x4556_4602;

/// What a script returned, if it is a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// `event` in result position.
    Event,
    /// `event.data` in result position.
    Data,
}

impl Marker {
    /// Returns which marker a result is.
    pub(super) fn of(result: &Dynamic) -> Option<Self> {
        match result.tag() {
            FORWARD_EVENT_TAG if result.is_unit() => Some(Self::Event),
            FORWARD_DATA_TAG if result.is_unit() => Some(Self::Data),
            _ => None,
        }
    }

    fn expression(self, position: Position) -> Expr {
        let mut value = Dynamic::UNIT;
        value.set_tag(match self {
            Self::Event => FORWARD_EVENT_TAG,
            Self::Data => FORWARD_DATA_TAG,
        });
        Expr::DynamicConstant(Box::new(value), position)
    }

    /// Returns the marker that may stand for `expression` in result position.
    fn for_expression(expression: &Expr) -> Option<Self> {
        let is_event =
            |expression: &Expr| matches!(expression, Expr::Variable(name, ..) if name.1 == "event" && name.2.is_empty());
        match expression {
            expression if is_event(expression) => Some(Self::Event),
            Expr::Dot(link, ..) if is_event(&link.lhs) => {
                matches!(&link.rhs, Expr::Property(name, _) if name.2 == "data").then_some(Self::Data)
            }
            _ => None,
        }
    }
}

/// Puts markers in the places of results. `event` must not stand for anything else in the script.
pub(super) fn mark(ast: &AST) -> AST {
    let mut statements = ast.statements().to_vec();
    statements.iter_mut().for_each(mark_returns);
    if let Some(last) = statements.last_mut() {
        mark_result(last);
    }
    AST::new(statements, ast.shared_lib().clone())
}

fn mark_expression(expression: &mut Expr) {
    if let Some(marker) = Marker::for_expression(expression) {
        *expression = marker.expression(expression.start_position());
    } else if let Expr::Stmt(block) = expression {
        mark_block(block);
    }
}

fn mark_block(block: &mut StmtBlock) {
    if let Some(last) = block.statements_mut().last_mut() {
        mark_result(last);
    }
}

fn mark_result(statement: &mut Stmt) {
    match statement {
        Stmt::Expr(expression) => mark_expression(expression),
        Stmt::Block(block) => mark_block(block),
        Stmt::If(flow, _) => {
            mark_block(&mut flow.body);
            mark_block(&mut flow.branch);
        }
        Stmt::Switch(switch, _) => {
            switch.1.expressions.iter_mut().for_each(|case| mark_expression(&mut case.rhs));
        }
        _ => {}
    }
}

/// Marks the values of `return` statements. One that is missed is only slower.
fn mark_returns(statement: &mut Stmt) {
    let in_block = |block: &mut StmtBlock| block.statements_mut().iter_mut().for_each(mark_returns);
    match statement {
        Stmt::Return(Some(value), flags, _) if !flags.intersects(ASTFlags::BREAK) => {
            if let Some(marker) = Marker::for_expression(value) {
                **value = marker.expression(value.start_position());
            }
        }
        Stmt::If(flow, _) | Stmt::While(flow, _) | Stmt::Do(flow, ..) | Stmt::TryCatch(flow, _) => {
            in_block(&mut flow.body);
            in_block(&mut flow.branch);
        }
        Stmt::For(each, _) => in_block(&mut each.2.body),
        Stmt::Block(block) => in_block(block),
        Stmt::Switch(switch, _) => {
            for case in &mut switch.1.expressions {
                if let Expr::Stmt(block) = &mut case.rhs {
                    in_block(block);
                }
            }
        }
        Stmt::Expr(expression) => {
            if let Expr::Stmt(block) = &mut **expression {
                in_block(block);
            }
        }
        _ => {}
    }
}
