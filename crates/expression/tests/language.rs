//! What expressions and programs mean, as tables.

mod common;

use common::{World, check, path};

#[test]
fn expressions() {
    let world = World::new();
    check(include_str!("expressions.txt"), |source| world.eval(source));
}

#[test]
fn programs() {
    let world = World::new();
    check(include_str!("programs.txt"), |source| world.run(source));
}

#[test]
fn names_of_data_come_before_those_of_the_context() {
    let mut world = World::new();
    world.data_path = Some(path("steps.health.result"));
    check(
        r#"
        error_rate > ctx.thresholds.errorRate  =>  true
        status == 'degraded'  =>  true
        result.error_rate  =>  0.12
        [val == data, _value == result]  =>  [true, true]
        namespace  =>  "production"
        missing  =>  ! nothing is named `missing` here; there is error_rate, status
        "#,
        |source| world.eval(source),
    );
    world.data_path = Some(path("steps.health"));
    check(
        r#"
        health.output.status  =>  "degraded"
        health.result.status  =>  "degraded"
        result.output.status  =>  "degraded"
        "#,
        |source| world.eval(source),
    );
}

#[test]
fn an_iteration_has_its_item() {
    let mut world = World::new();
    world.iteration = vec![
        ("service".into(), "web".into()),
        ("_index".into(), 1.into()),
        ("namespace".into(), "mine".into()),
    ];
    check(
        r#"
        service + str(_index)  =>  "web1"
        ctx.service  =>  "web"
        namespace  =>  "mine"
        [namespace for namespace in services]  =>  ["api","web","worker"]
        "#,
        |source| world.eval(source),
    );
}
