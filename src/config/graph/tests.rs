//! Small graphs, good and bad.

use super::*;

fn source(name: &str) -> Draft {
    Draft { role: Some(Role::Source), ..task(name) }
}

fn task(name: &str) -> Draft {
    Draft {
        name: Some(name.into()),
        kind: "any".into(),
        role: Some(Role::Transform),
        depends_on: None,
        is_name_certain: true,
        target_keys: &[],
        targets: vec![],
        route: None,
        is_route_certain: true,
        is_typed: true,
        needs: Default::default(),
        path: KeyPath::default(),
    }
}

fn after(name: &str, on: &[&str]) -> Draft {
    Draft { depends_on: Some(Names::Several(on.iter().map(|on| (*on).into()).collect())), ..task(name) }
}

fn switch(name: &str, to: &[&str]) -> Draft {
    let target = |task: &&str| Target { task: (*task).into(), path: "default".into() };
    Draft { target_keys: &["cases.*.to", "default"], targets: to.iter().map(target).collect(), ..task(name) }
}

fn routed(name: &str, to: &str) -> Draft {
    Draft { route: Some(Target { task: to.into(), path: "on_error.route".into() }), ..task(name) }
}

fn told(drafts: &[Draft]) -> Vec<String> {
    let mut problems = Problems::default();
    link(drafts, &mut problems);
    problems.into_vec().into_iter().map(|problem| problem.message).collect()
}

fn linked(drafts: &[Draft]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut problems = Problems::default();
    let links = link(drafts, &mut problems);
    assert_eq!(problems.into_vec(), []);
    links.into_iter().map(|links| (links.downstream, links.targets)).collect()
}

#[test]
fn a_second_source_starts_a_second_chain() {
    let links = linked(&[source("a"), task("b"), source("c"), task("d"), after("e", &["b", "d"])]);
    assert_eq!(
        links.into_iter().map(|(down, _)| down).collect::<Vec<_>>(),
        [vec![1], vec![4], vec![3], vec![4], vec![]]
    );
}

#[test]
fn a_target_has_its_edge_from_the_switch_and_none_from_its_predecessor() {
    let links = linked(&[source("a"), switch("s", &["y", "x"]), task("x"), task("y"), task("z")]);
    assert_eq!(
        links,
        [(vec![1], vec![]), (vec![], vec![3, 2]), (vec![], vec![]), (vec![4], vec![]), (vec![], vec![])]
    );
}

#[test]
fn an_explicit_dependency_of_a_target_stays() {
    let links = linked(&[source("a"), switch("s", &["x"]), after("x", &["a"])]);
    assert_eq!(links[0].0, [1, 2]);
    assert_eq!(links[1], (vec![], vec![2]));
}

#[test]
fn a_route_leads_an_edge_of_its_own_beside_those_downstream() {
    let drafts = [source("a"), routed("b", "d"), task("c"), task("d"), task("e")];
    let mut problems = Problems::default();
    let links = link(&drafts, &mut problems);
    assert_eq!(problems.into_vec(), []);
    let routes: Vec<_> = links.iter().map(|links| links.route).collect();
    assert_eq!(routes, [None, Some(3), None, None, None]);
    let downstream: Vec<_> = links.into_iter().map(|links| links.downstream).collect();
    assert_eq!(downstream, [vec![1], vec![2], vec![], vec![4], vec![]]);
}

#[test]
fn a_route_of_a_switch_may_lead_to_what_depends_on_it() {
    let failing = || Draft { route: routed("", "x").route, ..switch("s", &["y"]) };
    let links = linked(&[source("a"), failing(), task("x"), after("y", &["a"])]);
    assert_eq!(links[1], (vec![], vec![3]));
    assert_eq!(told(&[source("a"), failing(), after("x", &["s"]), after("y", &["a"])]), Vec::<String>::new());
}

#[test]
fn rejects_a_cycle_through_a_route() {
    let drafts = [source("in"), task("a"), task("b"), routed("c", "a")];
    assert_eq!(told(&drafts), ["the tasks form a cycle: a → b → c → a"]);
    assert_eq!(told(&[source("a"), routed("b", "a")]), ["`a` is a source: nothing can be sent to it"]);
    assert_eq!(told(&[source("a"), routed("b", "b")]), ["the task `b` names itself"]);
}

#[test]
fn rejects_a_cycle_through_fan_out_and_names_it_in_full() {
    let drafts = [source("in"), after("a", &["in", "c"]), task("b"), after("c", &["b"])];
    assert_eq!(told(&drafts), ["the tasks form a cycle: a → b → c → a"]);
}

#[test]
fn rejects_what_makes_no_graph() {
    assert_eq!(told(&[task("a")]), ["the first task must be a source; `any` is a transform"]);
    assert_eq!(told(&[source("a"), after("b", &["b"])])[0], "the task `b` names itself");
    assert_eq!(told(&[source("a"), after("b", &[])]), ["nothing feeds the task `b`"]);
    assert_eq!(told(&[source("a"), after("b", &["a", "a"])]), ["`a` is named twice"]);
    assert_eq!(told(&[source("a"), switch("s", &["a"])]), ["`a` is a source: nothing can be sent to it"]);
    let fed = Draft { role: Some(Role::Source), ..after("b", &["a"]) };
    assert_eq!(told(&[source("a"), fed]), ["`any` is a source: it depends on no task"]);
}

#[test]
fn a_task_that_could_not_be_typed_causes_no_further_problems() {
    let untyped = || Draft { is_typed: false, ..switch("s", &[]) };
    assert_eq!(told(&[source("a"), untyped(), after("x", &["s"]), after("y", &[])]), Vec::<String>::new());
    assert_eq!(told(&[source("a"), untyped(), task("x")]), Vec::<String>::new());
    assert_eq!(told(&[source("a"), switch("s", &["b"]), task("c"), untyped()]), ["there is no task `b`"]);
    let unknown = Draft { role: None, is_typed: false, ..task("u") };
    assert_eq!(
        told(&[source("a"), switch("s", &["b"]), task("b"), unknown, after("y", &[])]),
        Vec::<String>::new()
    );
}

#[test]
fn a_task_that_could_not_be_typed_hides_no_problem_elsewhere() {
    let untyped = || Draft { is_typed: false, ..task("u") };
    assert_eq!(told(&[untyped(), task("a")]), ["the first task must be a source; `any` is a transform"]);
    assert_eq!(told(&[source("a"), untyped(), after("y", &[])]), ["nothing feeds the task `y`"]);
    let open = || Draft { is_typed: false, ..switch("s", &["a"]) };
    assert_eq!(told(&[source("a"), open()]), ["`a` is a source: nothing can be sent to it"]);
    let follower = [source("a"), switch("s", &["b"]), task("b"), after("c", &["s"]), untyped()];
    assert_eq!(told(&follower), ["`any` sends only to the tasks it names"]);
    assert_eq!(told(&[task("t"), open(), source("a")]).len(), 2);
}

#[test]
fn a_follower_of_a_switch_has_to_be_named_in_it() {
    let refused = ["`any` sends only to the tasks it names"];
    assert_eq!(told(&[source("a"), switch("s", &["b"]), task("rest"), task("b")]), refused);
    assert_eq!(told(&[source("a"), switch("s", &["b"]), task("b"), after("c", &["s", "a"])]), refused);
    let both = linked(&[source("a"), switch("s", &["b"]), after("b", &["s"])]);
    assert_eq!(both[1], (vec![], vec![2]));
}

#[test]
fn a_name_that_is_not_certain_is_missed_once() {
    let nameless = Draft { is_name_certain: false, ..task("Orders") };
    assert_eq!(told(&[source("a"), nameless, after("b", &["orders"])]), Vec::<String>::new());
}

#[test]
fn targets_are_read_from_a_configuration_that_could_not_be_typed() {
    let config = serde_json::json!({"cases": [{"to": "a"}, {"to": 5}, 7, {"to": "b"}], "default": "c"});
    let targets = Draft::targets_in(&["cases.*.to", "default"], &config);
    let told: Vec<_> = targets.iter().map(|target| (&*target.task, &*target.path)).collect();
    assert_eq!(told, [("a", "cases.0.to"), ("b", "cases.3.to"), ("c", "default")]);
}
