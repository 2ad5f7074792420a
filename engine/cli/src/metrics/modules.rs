//! The families about modules from shared libraries: labels are modules and the names of their statistics.

use binrush::handler::CallbackTotals;
use binrush::support::statistics::Statistic;
use prometheus::proto::{Metric, MetricFamily};

use super::family::{counter, counters, gauge, gauges};

/// What is known of modules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Modules {
    /// What callbacks came to, module by module.
    pub(crate) callbacks: Vec<Module>,
    /// Their own statistics.
    pub(crate) statistics: Vec<Statistic>,
}

/// What the callbacks of one came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) callbacks: CallbackTotals,
}

type OfModule = (&'static str, &'static str, fn(&CallbackTotals) -> u64);

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(modules: &Modules) -> Vec<MetricFamily> {
    let named = |module: &Module, metric: fn(&[(&str, &str)], f64) -> Metric, value: f64| {
        metric(&[("library", &module.name)], value)
    };
    let each = &modules.callbacks;
    let counted = COUNTERS.map(|(name, help, value)| {
        let of = |module| named(module, counter, value(&module.callbacks) as f64);
        counters(name, help, each.iter().map(of))
    });
    let longest = each.iter().map(|module| {
        let longest = module.callbacks.longest.as_secs_f64();
        named(module, gauge, longest)
    });
    let own = |is_counter: bool, metric: fn(&[(&str, &str)], f64) -> Metric| {
        let own = modules.statistics.iter();
        let own = own.filter(move |own| own.is_counter == is_counter);
        own.take(STATISTICS_MAX).map(move |own| {
            let labels = [("library", &own.module[..]), ("name", &own.name)];
            metric(&labels, value(own))
        })
    };
    let rest = [
        gauges(
            "binrush_library_longest_callback_seconds",
            "What the longest callback or function of a module from a shared library took; 0 without a callback_budget.",
            longest,
        ),
        counters(
            "binrush_library_statistic_total",
            "Statistics that modules from shared libraries export and may reset: those without STAT_NO_RESET and without a function.",
            own(true, counter),
        ),
        gauges(
            "binrush_library_statistic",
            "Statistics that modules from shared libraries export with STAT_NO_RESET, or as a function: they go up and down.",
            own(false, gauge),
        ),
    ];
    counted.into_iter().chain(rest).collect()
}

/// What stands below zero in C's `unsigned long` is told as such, but of what only grows.
fn value(of: &Statistic) -> f64 {
    match of.is_counter {
        true => of.value as f64,
        false => of.value.cast_signed() as f64,
    }
}

const COUNTERS: [OfModule; 6] = [
    (
        "binrush_library_callbacks_total",
        "Packets that a callback of a module from a shared library was called with.",
        |totals| totals.calls,
    ),
    (
        "binrush_library_misread_total",
        "Callbacks in which a pop answered an error: past the end of the packet, or a negative length.",
        |totals| totals.misread,
    ),
    (
        "binrush_library_over_budget_total",
        "Callbacks that took longer than callback_budget.",
        |totals| totals.over_budget,
    ),
    (
        "binrush_library_not_called_total",
        "Packets without a callback to call: of before 2.3 for the 3.x API, or on a shard whose child_init registered none.",
        |totals| totals.not_called,
    ),
    (
        "binrush_library_functions_total",
        "Calls of functions of a module from a shared library by routes.",
        |totals| totals.functions,
    ),
    (
        "binrush_library_functions_over_budget_total",
        "Calls of functions by routes that took longer than callback_budget.",
        |totals| totals.functions_over_budget,
    ),
];

/// Series of each kind that modules may make.
const STATISTICS_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::super::{Status, exposition::Exposition};
    use super::*;
    use std::time::Duration;

    #[test]
    fn callbacks_and_statistics_are_told_by_module() {
        let statistic = |name: &str, value, is_counter| Statistic {
            module: "counter".to_owned(),
            name: name.to_owned(),
            value,
            is_counter,
        };
        let callbacks = CallbackTotals {
            calls: 7,
            misread: 2,
            over_budget: 1,
            not_called: 3,
            functions: 6,
            functions_over_budget: 5,
            longest: Duration::from_micros(1500),
        };
        let status = Status {
            modules: Modules {
                callbacks: vec![Module {
                    name: "counter".to_owned(),
                    callbacks,
                }],
                statistics: vec![
                    statistic("seen", 9, true),
                    statistic("held", 4, false),
                    statistic("owed", 3u64.wrapping_neg(), false),
                ],
            },
            ..Status::default()
        };
        let page = Exposition::parse(&status.text()).unwrap();
        let library = [("library", "counter")];
        for (name, value) in [
            ("binrush_library_callbacks_total", 7.0),
            ("binrush_library_misread_total", 2.0),
            ("binrush_library_over_budget_total", 1.0),
            ("binrush_library_not_called_total", 3.0),
            ("binrush_library_functions_total", 6.0),
            ("binrush_library_functions_over_budget_total", 5.0),
            ("binrush_library_longest_callback_seconds", 0.0015),
        ] {
            assert_eq!(page.value(name, &library), Some(value), "{name}");
        }
        for (family, name, value) in [
            ("binrush_library_statistic_total", "seen", 9.0),
            ("binrush_library_statistic", "held", 4.0),
            ("binrush_library_statistic", "owed", -3.0),
        ] {
            let labels = [("library", "counter"), ("name", name)];
            assert_eq!(page.value(family, &labels), Some(value), "{name}");
        }
    }
}
