//! The order of keys in the map literals of a script.
//!
//! A Rhai map is sorted by key, so a result would lose the order in which its author wrote it. The
//! literals are known at compile time; a map with the keys of one of them leaves in its order.

use rhai::{ASTNode, AST, Expr, Map};

use super::analysis;

/// The keys of each map literal, those in result position first.
#[derive(Debug, Default)]
pub(super) struct Shapes(Vec<Vec<Box<str>>>);

impl Shapes {
    /// Collects the literals of a script that was not optimised yet.
    pub(super) fn collect(ast: &AST) -> Self {
        let (mut results, mut others) = (Vec::new(), Vec::new());
        let last = ast.statements().last().and_then(analysis::result_expression);
        ast.walk(&mut |path| {
            if let Some(ASTNode::Expr(expression @ Expr::Map(literal, _))) = path.last() {
                let keys = literal.0.iter().map(|(key, _)| key.name.as_str().into()).collect();
                let is_result = last.is_some_and(|last| std::ptr::eq(last, *expression));
                if is_result { results.push(keys) } else { others.push(keys) }
            }
            true
        });
        results.append(&mut others);
        Self(results)
    }

    /// Returns the keys of the literal that `map` looks like: the one with most keys, all of them present.
    pub(super) fn of(&self, map: &Map) -> Option<&[Box<str>]> {
        let mut best: Option<&Vec<Box<str>>> = None;
        for keys in &self.0 {
            if keys.len() <= map.len()
                && best.is_none_or(|best| best.len() < keys.len())
                && keys.iter().all(|key| map.contains_key(key.as_ref()))
            {
                best = Some(keys);
                if keys.len() == map.len() {
                    break;
                }
            }
        }
        best.filter(|keys| !keys.is_empty()).map(Vec::as_slice)
    }
}
