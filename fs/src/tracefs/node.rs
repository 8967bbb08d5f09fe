//! What there is in tracefs: names, kinds, modes, numbers.

use alloc::{string::String, vec::Vec};

use base::{
    Errno, Result,
    trace::{Event, buffer, events, options},
};
use frame::cpu::CpuId;

/// A file or folder.
#[derive(Clone, Copy)]
pub(super) enum Node {
    Root,
    PerCpu,
    Cpu(CpuId),
    Options,
    Events,
    System(&'static str),
    Event(&'static Event),
    /// The system of records that are no events: marks.
    Ftrace,
    Print,
    File(What),
}

/// Which file.
#[derive(Clone, Copy)]
pub(super) enum What {
    Trace(Option<CpuId>),
    Pipe(Option<CpuId>),
    PipeRaw(CpuId),
    Stats(CpuId),
    SizeKb(Option<CpuId>),
    TotalSizeKb,
    SetEvent,
    SetEventPid,
    SetEventNotracePid,
    AvailableEvents,
    SavedCmdlines,
    ErrorLog,
    TracingOn,
    Marker,
    CurrentTracer,
    AvailableTracers,
    Clock,
    TraceOptions,
    Option(usize),
    EnableAll,
    EnableSystem(&'static str),
    FilterSystem(&'static str),
    Enable(&'static Event),
    Filter(&'static Event),
    Format(&'static Event),
    Id(&'static Event),
    PrintFormat,
    PrintId,
    HeaderPage,
    HeaderEvent,
    PrintkFormats,
}

const TOP: [(&str, What); 17] = [
    ("available_events", What::AvailableEvents),
    ("available_tracers", What::AvailableTracers),
    ("buffer_size_kb", What::SizeKb(None)),
    ("buffer_total_size_kb", What::TotalSizeKb),
    ("current_tracer", What::CurrentTracer),
    ("error_log", What::ErrorLog),
    ("printk_formats", What::PrintkFormats),
    ("saved_cmdlines", What::SavedCmdlines),
    ("set_event", What::SetEvent),
    ("set_event_notrace_pid", What::SetEventNotracePid),
    ("set_event_pid", What::SetEventPid),
    ("trace", What::Trace(None)),
    ("trace_clock", What::Clock),
    ("trace_marker", What::Marker),
    ("trace_options", What::TraceOptions),
    ("trace_pipe", What::Pipe(None)),
    ("tracing_on", What::TracingOn),
];

impl Node {
    pub(super) fn is_dir(self) -> bool {
        !matches!(self, Node::File(_))
    }

    /// Names and entries of a folder. ENOTDIR.
    pub(super) fn children(self) -> Result<Vec<(String, Node)>> {
        let mut l = List(Vec::new());
        match self {
            Node::Root => {
                l.dir("events", Node::Events)?;
                l.dir("options", Node::Options)?;
                l.dir("per_cpu", Node::PerCpu)?;
                for (name, what) in TOP {
                    l.file(name, what)?;
                }
            }
            Node::PerCpu => {
                for c in buffer::cpus() {
                    l.dir(&alloc::format!("cpu{c}"), Node::Cpu(c))?;
                }
            }
            Node::Cpu(c) => {
                l.file("buffer_size_kb", What::SizeKb(Some(c)))?;
                l.file("stats", What::Stats(c))?;
                l.file("trace", What::Trace(Some(c)))?;
                l.file("trace_pipe", What::Pipe(Some(c)))?;
                l.file("trace_pipe_raw", What::PipeRaw(c))?;
            }
            Node::Options => {
                for (i, name) in options::NAMES.iter().enumerate() {
                    l.file(name, What::Option(i))?;
                }
            }
            Node::Events => {
                let all = events();
                l.file("enable", What::EnableAll)?;
                l.file("header_event", What::HeaderEvent)?;
                l.file("header_page", What::HeaderPage)?;
                l.dir("ftrace", Node::Ftrace)?;
                for (i, e) in all.iter().enumerate() {
                    if all[..i].iter().all(|b| b.system() != e.system()) {
                        l.dir(e.system(), Node::System(e.system()))?;
                    }
                }
            }
            Node::System(s) => {
                l.file("enable", What::EnableSystem(s))?;
                l.file("filter", What::FilterSystem(s))?;
                for e in events().into_iter().filter(|e| e.system() == s) {
                    l.dir(e.name(), Node::Event(e))?;
                }
            }
            Node::Event(e) => {
                l.file("enable", What::Enable(e))?;
                l.file("filter", What::Filter(e))?;
                l.file("format", What::Format(e))?;
                l.file("id", What::Id(e))?;
            }
            Node::Ftrace => l.dir("print", Node::Print)?,
            Node::Print => {
                l.file("format", What::PrintFormat)?;
                l.file("id", What::PrintId)?;
            }
            Node::File(_) => return Err(Errno::ENOTDIR),
        }
        Ok(l.0)
    }

    pub(super) fn mode(self) -> u32 {
        match self {
            Node::Root => 0o700,
            Node::PerCpu | Node::Cpu(_) | Node::Options => 0o750,
            Node::File(w) => match w {
                What::Marker => 0o220,
                What::Pipe(_)
                | What::PipeRaw(_)
                | What::HeaderPage
                | What::HeaderEvent
                | What::PrintkFormats
                | What::Stats(_)
                | What::TotalSizeKb
                | What::AvailableEvents
                | What::SavedCmdlines
                | What::AvailableTracers
                | What::Format(_)
                | What::Id(_)
                | What::PrintFormat
                | What::PrintId => 0o440,
                _ => 0o640,
            },
            _ => 0o755,
        }
    }

    /// A number that no other has.
    pub(super) fn ino(self) -> u64 {
        const CPU: u64 = 0x1000;
        const EVENT: u64 = 0x10_0000;
        let cpu = |c: Option<CpuId>, n: u64| c.map_or(0x100, |c| CPU + u64::from(c.get()) * 16) + n;
        let event = |e: &Event, n: u64| EVENT + u64::from(e.id()) * 16 + n;
        let system = |s: &str, n| events().iter().find(|e| e.system() == s).map_or(n, |e| event(e, n));
        match self {
            Node::Root => 1,
            Node::PerCpu => 2,
            Node::Options => 3,
            Node::Events => 4,
            Node::Ftrace => 5,
            Node::Print => 6,
            Node::Cpu(c) => cpu(Some(c), 0),
            Node::Event(e) => event(e, 0),
            Node::System(s) => system(s, 8),
            Node::File(w) => match w {
                What::Trace(c) => cpu(c, 1),
                What::Pipe(c) => cpu(c, 2),
                What::SizeKb(c) => cpu(c, 3),
                What::Stats(c) => cpu(Some(c), 4),
                What::PipeRaw(c) => cpu(Some(c), 5),
                What::TotalSizeKb => 16,
                What::SetEvent => 17,
                What::SetEventPid => 18,
                What::AvailableEvents => 19,
                What::TracingOn => 20,
                What::Marker => 21,
                What::CurrentTracer => 22,
                What::AvailableTracers => 23,
                What::Clock => 24,
                What::TraceOptions => 25,
                What::EnableAll => 26,
                What::PrintFormat => 27,
                What::PrintId => 28,
                What::SavedCmdlines => 29,
                What::ErrorLog => 30,
                What::SetEventNotracePid => 31,
                What::HeaderPage => 32,
                What::HeaderEvent => 33,
                What::PrintkFormats => 34,
                What::Option(n) => 64 + n as u64,
                What::Enable(e) => event(e, 1),
                What::Filter(e) => event(e, 2),
                What::Format(e) => event(e, 3),
                What::Id(e) => event(e, 4),
                What::EnableSystem(s) => system(s, 9),
                What::FilterSystem(s) => system(s, 10),
            },
        }
    }
}

struct List(Vec<(String, Node)>);

impl List {
    fn dir(&mut self, name: &str, n: Node) -> Result<()> {
        let mut s = String::new();
        s.try_reserve_exact(name.len())?;
        s.push_str(name);
        self.0.try_reserve(1)?;
        self.0.push((s, n));
        Ok(())
    }
    fn file(&mut self, name: &str, what: What) -> Result<()> {
        self.dir(name, Node::File(what))
    }
}
