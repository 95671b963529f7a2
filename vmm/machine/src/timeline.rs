//! When a machine reached which stage of its start.

use std::fmt;
use std::time::{Duration, Instant};

/// A stage of the start, in the order in which machines pass them as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// The owner began to build the machine.
    Start,
    /// Memory, kernel, devices and vCPUs are in place; vCPU 0 enters the guest.
    VcpuEntry,
    /// The guest wrote its first byte to the console: as a rule guest-init, as
    /// kernels are told to be quiet unless they fail.
    FirstOutput,
    /// guest-init began to run as PID 1.
    Init,
    /// The guest's root file system is assembled.
    RootReady,
    /// The agent has said hello to the host.
    AgentReady,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Start => "VMM start",
            Stage::VcpuEntry => "vCPU entry",
            Stage::FirstOutput => "first console output",
            Stage::Init => "init",
            Stage::RootReady => "root assembled",
            Stage::AgentReady => "agent ready",
        })
    }
}

/// Stages with their moments, counted from the first one. Displayed as a table
/// in milliseconds, one line a stage, in the order of time.
#[derive(Clone, Debug)]
pub struct Timeline {
    start: Instant,
    stages: Vec<(Stage, Duration)>,
}

impl Timeline {
    /// A timeline whose [`Stage::Start`] is `start`.
    pub fn new(start: Instant) -> Self {
        Timeline {
            start,
            stages: vec![(Stage::Start, Duration::ZERO)],
        }
    }

    /// Records `stage` at `when`. A stage that is recorded already stays as it is.
    pub fn record(&mut self, stage: Stage, when: Instant) {
        if self.at(stage).is_none() {
            self.stages
                .push((stage, when.saturating_duration_since(self.start)));
            self.stages.sort_by_key(|(stage, at)| (*at, *stage));
        }
    }

    /// How long after the start `stage` was reached.
    pub fn at(&self, stage: Stage) -> Option<Duration> {
        self.stages
            .iter()
            .find(|(reached, _)| *reached == stage)
            .map(|(_, at)| *at)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = Duration::ZERO;
        for (stage, at) in &self.stages {
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            let step = at.saturating_sub(before);
            writeln!(
                f,
                "{stage:<22} {:>9.1} ms  +{:.1}",
                millis(*at),
                millis(step)
            )?;
            before = *at;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_in_order_and_kept_once() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start);
        timeline.record(Stage::AgentReady, start + Duration::from_millis(300));
        timeline.record(Stage::VcpuEntry, start + Duration::from_millis(10));
        timeline.record(Stage::VcpuEntry, start + Duration::from_millis(20));
        timeline.record(Stage::FirstOutput, start + Duration::from_millis(120));
        timeline.record(Stage::Init, start + Duration::from_millis(110));
        assert_eq!(
            timeline.at(Stage::VcpuEntry),
            Some(Duration::from_millis(10))
        );
        let text = timeline.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1].starts_with("vCPU entry") && lines[1].ends_with("10.0 ms  +10.0"));
        assert!(lines[2].starts_with("init") && lines[2].ends_with("110.0 ms  +100.0"));
        assert!(lines[3].starts_with("first console") && lines[3].ends_with("120.0 ms  +10.0"));
        assert!(lines[4].starts_with("agent ready") && lines[4].ends_with("300.0 ms  +180.0"));
    }
}
