//! From the text of a trace to Trace Event Format (JSON): who ran where, and what happened in between.
//!
//! | process in the picture | its tracks | slices |
//! |---|---|---|
//! | `processors` | one per processor | the task that runs, from switch to switch; idle is empty |
//! | `interrupts`, `softirqs`, `timers` | one per processor | handler, softirq, timer function |
//! | `tasks` | one per task | work items; and every other event as an instant |
//!
//! An arrow leads from who wakes a task to where the task then runs. What had begun before the trace did, or ends after it, is cut at
//! its edge; an end without a beginning is left out. Lines that are no records are counted, not guessed at.
//!
//! Documented: "Trace Event Format" (Google), complete, instant, flow and metadata events.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::parse::{self, Line};

/// The processes of the picture.
mod pid {
    pub(super) const PROCESSORS: u32 = 1;
    pub(super) const INTERRUPTS: u32 = 2;
    pub(super) const SOFTIRQS: u32 = 3;
    pub(super) const TIMERS: u32 = 4;
    pub(super) const TASKS: u32 = 5;
}

/// A trace that was converted.
pub struct Converted {
    pub json: Value,
    pub records: usize,
    /// Records that the kernel overwrote before they were read.
    pub lost: u64,
    /// Lines that were neither records nor remarks.
    pub odd: usize,
}

impl Converted {
    /// What the user is told besides the number of records.
    pub fn remarks(&self) -> String {
        let mut s = String::new();
        if self.lost > 0 {
            s += &format!(", {} older ones lost (a larger --buffer keeps them)", self.lost);
        }
        if self.odd > 0 {
            s += &format!(", {} lines not understood", self.odd);
        }
        s
    }
}

/// A slice that has begun.
struct Open {
    us: u64,
    name: String,
    args: Value,
}

#[derive(Default)]
struct Converter {
    events: Vec<Value>,
    /// By process and track.
    open: HashMap<(u32, u32), Vec<Open>>,
    /// Wake-ups whose task has not run since: the arrow's number.
    woken: HashMap<u32, u64>,
    arrows: u64,
    tasks: BTreeMap<u32, String>,
    cpus: BTreeMap<u32, ()>,
    /// When the trace began and where it has got to.
    span: Option<(u64, u64)>,
}

/// Converts the text of a trace.
pub fn convert(text: &str) -> Converted {
    let mut c = Converter::default();
    let (mut records, mut lost, mut odd) = (0, 0, 0);
    for l in text.lines() {
        match parse::line(l) {
            Some(r) => {
                records += 1;
                c.record(&r);
            }
            None if l.trim().is_empty() => {}
            None if l.starts_with('#') => lost += lost_in(l),
            // Told by the header too.
            None if l.starts_with("CPU:") => {}
            None => odd += 1,
        }
    }
    Converted { json: c.finish(), records, lost, odd }
}

/// `# entries-in-buffer/entries-written: 12/34`: the difference.
fn lost_in(l: &str) -> u64 {
    let Some((_, n)) = l.split_once("entries-written: ") else { return 0 };
    let n = n.split_ascii_whitespace().next().unwrap_or("");
    let Some((kept, written)) = n.split_once('/') else { return 0 };
    written.parse::<u64>().unwrap_or(0).saturating_sub(kept.parse().unwrap_or(0))
}

impl Converter {
    fn record(&mut self, r: &Line<'_>) {
        let (begun, latest) = self.span.unwrap_or((r.us, r.us));
        self.span = Some((begun.min(r.us), latest.max(r.us)));
        self.cpus.insert(r.cpu, ());
        self.name_task(r.pid, r.comm);
        match r.event {
            "sched_switch" => self.switch(r),
            "sched_waking" => self.waking(r),
            "irq_handler_entry" => {
                let name = parse::field(r.text, "name", None).unwrap_or("?");
                let irq = parse::number(r.text, "irq");
                self.begin(pid::INTERRUPTS, r.cpu, r.us, name.into(), json!({ "irq": irq }));
            }
            "irq_handler_exit" => {
                self.end(pid::INTERRUPTS, r.cpu, r.us, json!({ "ret": after(r.text, "ret=") }))
            }
            "softirq_entry" => {
                let name = after(r.text, "[action=").trim_end_matches(']');
                self.begin(pid::SOFTIRQS, r.cpu, r.us, name.into(), json!({}));
            }
            "softirq_exit" => self.end(pid::SOFTIRQS, r.cpu, r.us, Value::Null),
            "hrtimer_expire_entry" | "timer_expire_entry" => {
                let name = parse::field(r.text, "function", None).unwrap_or("?");
                self.begin(pid::TIMERS, r.cpu, r.us, name.into(), json!({ "fields": r.text }));
            }
            "hrtimer_expire_exit" | "timer_expire_exit" => self.end(pid::TIMERS, r.cpu, r.us, Value::Null),
            "workqueue_execute_start" => {
                let name = r.text.rsplit_once("function ").map_or("?", |(_, f)| f);
                self.begin(pid::TASKS, r.pid, r.us, name.into(), json!({ "cpu": r.cpu, "fields": r.text }));
            }
            "workqueue_execute_end" => self.end(pid::TASKS, r.pid, r.us, Value::Null),
            _ => self.instant(r),
        }
    }

    /// The latest name counts; that of a record may be the event's idea of idle.
    fn name_task(&mut self, task: u32, comm: &str) {
        if task != 0 && self.tasks.get(&task).is_none_or(|old| old != comm) {
            self.tasks.insert(task, comm.into());
        }
    }

    fn switch(&mut self, r: &Line<'_>) {
        let state = parse::field(r.text, "prev_state", None).unwrap_or("?");
        let prev = parse::number(r.text, "prev_pid").unwrap_or(r.pid);
        if !self.is_open(pid::PROCESSORS, r.cpu) && prev != 0 && self.first_on(r.cpu) {
            // It ran when the trace began.
            let from = self.span.map_or(r.us, |s| s.0);
            let comm = parse::field(r.text, "prev_comm", Some("prev_pid")).unwrap_or(r.comm);
            self.begin(pid::PROCESSORS, r.cpu, from, comm.into(), json!({ "pid": prev }));
        }
        self.end(pid::PROCESSORS, r.cpu, r.us, json!({ "end_state": state }));
        self.cpus.insert(r.cpu, ());
        let Some(next) = parse::number(r.text, "next_pid") else { return };
        let comm = parse::field(r.text, "next_comm", Some("next_pid")).unwrap_or("?");
        self.name_task(next, comm);
        if next != 0 {
            let prio = parse::number(r.text, "next_prio");
            self.begin(pid::PROCESSORS, r.cpu, r.us, comm.into(), json!({ "pid": next, "prio": prio }));
            if let Some(id) = self.woken.remove(&next) {
                self.arrow("f", id, r.cpu, r.us);
            }
        } else {
            // Idle: nothing is open, and this was not the first switch.
            self.open.entry((pid::PROCESSORS, r.cpu)).or_default();
        }
    }
    fn first_on(&self, cpu: u32) -> bool {
        !self.open.contains_key(&(pid::PROCESSORS, cpu))
    }

    fn waking(&mut self, r: &Line<'_>) {
        let Some(task) = parse::number(r.text, "pid") else { return };
        if let Some(comm) = parse::field(r.text, "comm", Some("pid")) {
            self.name_task(task, comm);
        }
        self.instant(r);
        // An arrow begins in a slice: an interrupt of an idle processor has none on this track.
        if r.pid != 0 {
            self.arrows += 1;
            self.woken.insert(task, self.arrows);
            self.arrow("s", self.arrows, r.cpu, r.us);
        }
    }

    fn arrow(&mut self, ph: &str, id: u64, cpu: u32, us: u64) {
        let mut e = json!({ "name": "wake-up", "cat": "sched", "ph": ph, "id": id, "pid": pid::PROCESSORS, "tid": cpu, "ts": us });
        if ph == "f" {
            e["bp"] = "e".into();
        }
        self.events.push(e);
    }

    fn instant(&mut self, r: &Line<'_>) {
        let args = json!({ "fields": r.text, "cpu": r.cpu });
        // What an idle processor does has no task to stand with.
        let (process, track) = if r.pid == 0 { (pid::PROCESSORS, r.cpu) } else { (pid::TASKS, r.pid) };
        self.events.push(
            json!({ "name": r.event, "ph": "i", "s": "t", "pid": process, "tid": track, "ts": r.us, "args": args }),
        );
    }

    fn is_open(&self, process: u32, track: u32) -> bool {
        self.open.get(&(process, track)).is_some_and(|o| !o.is_empty())
    }
    fn begin(&mut self, process: u32, track: u32, us: u64, name: String, args: Value) {
        self.open.entry((process, track)).or_default().push(Open { us, name, args });
    }
    fn end(&mut self, process: u32, track: u32, us: u64, more: Value) {
        let Some(o) = self.open.get_mut(&(process, track)).and_then(Vec::pop) else { return };
        self.slice(process, track, us, o, more);
    }
    fn slice(&mut self, process: u32, track: u32, us: u64, mut o: Open, more: Value) {
        if let (Some(args), Value::Object(more)) = (o.args.as_object_mut(), more) {
            args.extend(more);
        }
        let dur = us.saturating_sub(o.us);
        self.events.push(
            json!({ "name": o.name, "ph": "X", "pid": process, "tid": track, "ts": o.us, "dur": dur, "args": o.args }),
        );
    }

    fn finish(mut self) -> Value {
        let end = self.span.map_or(0, |s| s.1);
        let mut left: Vec<_> = self.open.drain().collect();
        left.sort_by_key(|(k, _)| *k);
        for ((process, track), opens) in left {
            for o in opens.into_iter().rev() {
                self.slice(process, track, end, o, json!({ "cut": true }));
            }
        }
        let mut all = self.names();
        self.events.sort_by_key(|e| e["ts"].as_u64());
        all.append(&mut self.events);
        json!({ "traceEvents": all, "displayTimeUnit": "ns" })
    }

    fn names(&self) -> Vec<Value> {
        let meta = |what: &str, process: u32, track: Option<u32>, args: Value| {
            let mut e = json!({ "name": what, "ph": "M", "pid": process, "args": args });
            if let Some(t) = track {
                e["tid"] = t.into();
            }
            e
        };
        let mut v = Vec::new();
        let groups = ["processors", "interrupts", "softirqs", "timers", "tasks"];
        for (process, name) in (pid::PROCESSORS..).zip(groups) {
            v.push(meta("process_name", process, None, json!({ "name": name })));
            v.push(meta("process_sort_index", process, None, json!({ "sort_index": process })));
        }
        for (cpu, process) in
            self.cpus.keys().flat_map(|c| (pid::PROCESSORS..pid::TASKS).map(move |p| (*c, p)))
        {
            v.push(meta("thread_name", process, Some(cpu), json!({ "name": format!("CPU {cpu}") })));
        }
        for (task, comm) in &self.tasks {
            v.push(meta("thread_name", pid::TASKS, Some(*task), json!({ "name": format!("{comm} {task}") })));
        }
        v
    }
}

/// What follows `key`, to the end.
fn after<'a>(text: &'a str, key: &str) -> &'a str {
    text.split_once(key).map_or("?", |(_, t)| t)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 12/15   #P:2
#
              sh-7       [000] d..2.     1.000010: sched_switch: prev_comm=sh prev_pid=7 prev_prio=120 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120
          <idle>-0       [000] d.h1.     1.000020: irq_handler_entry: irq=4 name=ttyS0
          <idle>-0       [000] d.h1.     1.000025: irq_handler_exit: irq=4 ret=handled
          <idle>-0       [000] ..s1.     1.000026: softirq_entry: vec=1 [action=TIMER]
          <idle>-0       [000] ..s1.     1.000028: softirq_exit: vec=1 [action=TIMER]
          <idle>-0       [000] d..2.     1.000030: sched_switch: prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=kworker/0:1 next_pid=9 next_prio=120
     kworker/0:1-9       [000] .....     1.000031: workqueue_execute_start: work struct 0000000012345678: function flush_to_ldisc
     kworker/0:1-9       [000] d..3.     1.000033: sched_waking: comm=sh pid=7 prio=120 target_cpu=001
     kworker/0:1-9       [000] .....     1.000035: workqueue_execute_end: work struct 0000000012345678: function flush_to_ldisc
          <idle>-0       [001] d..2.     1.000040: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=sh next_pid=7 next_prio=120
this line is torn
              sh-7       [001] .....     1.000050: signal_deliver: sig=17 errno=0 code=1 sa_handler=0 sa_flags=0
";

    fn of(v: &Value, ph: &str) -> Vec<Value> {
        v["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == ph).cloned().collect()
    }

    #[test]
    fn slices_instants_and_arrows() {
        let c = convert(TEXT);
        assert_eq!((c.records, c.lost, c.odd), (11, 3, 1));
        let x: Vec<_> = of(&c.json, "X")
            .iter()
            .map(|e| {
                let n = |k: &str| e[k].as_u64().unwrap();
                (e["name"].as_str().unwrap().to_string(), n("pid"), n("tid"), n("ts") - 1_000_000, n("dur"))
            })
            .collect();
        let want = [
            ("sh", 1, 0, 10, 0),
            ("ttyS0", 2, 0, 20, 5),
            ("TIMER", 3, 0, 26, 2),
            ("kworker/0:1", 1, 0, 30, 20),
            ("flush_to_ldisc", 5, 9, 31, 4),
            ("sh", 1, 1, 40, 10),
        ];
        assert_eq!(x, want.map(|(n, p, t, at, d)| (n.to_string(), p, t, at, d)));
        let i: Vec<_> = of(&c.json, "i").iter().map(|e| e["name"].as_str().unwrap().to_string()).collect();
        assert_eq!(i, ["sched_waking", "signal_deliver"]);
        let (s, f) = (of(&c.json, "s"), of(&c.json, "f"));
        assert_eq!((s.len(), f.len()), (1, 1));
        assert_eq!((&s[0]["id"], &f[0]["tid"]), (&f[0]["id"], &json!(1)));
        let names = of(&c.json, "M");
        assert!(names.iter().any(|e| e["args"]["name"] == "kworker/0:1 9"));
        assert!(names.iter().any(|e| e["args"]["name"] == "CPU 1"));
    }

    #[test]
    fn an_empty_trace_is_a_picture_too() {
        let c = convert("# tracer: nop\n#\n");
        assert_eq!((c.records, c.lost, c.odd), (0, 0, 0));
        assert!(of(&c.json, "X").is_empty());
        assert!(c.remarks().is_empty());
    }

    /// Of each track: slices lie within the trace, and one that begins inside another ends there.
    fn well_formed(v: &Value) {
        let mut tracks: HashMap<(u64, u64), Vec<(u64, u64)>> = HashMap::new();
        for e in of(v, "X") {
            let n = |k: &str| e[k].as_u64().unwrap();
            tracks.entry((n("pid"), n("tid"))).or_default().push((n("ts"), n("ts") + n("dur")));
        }
        for t in tracks.values_mut() {
            t.sort_by_key(|(a, b)| (*a, std::cmp::Reverse(*b)));
            let mut stack: Vec<u64> = Vec::new();
            for (a, b) in t {
                while stack.last().is_some_and(|end| end <= a) {
                    stack.pop();
                }
                assert!(stack.last().is_none_or(|end| *b <= *end), "slices overlap");
                stack.push(*b);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(s in "([ -~]{0,60}\n){0,20}") {
            well_formed(&convert(&s).json);
        }
        /// Lines missing, repeated, torn: what a full ring or a bad line leaves.
        #[test]
        fn a_damaged_trace_is_answered(keep in prop::collection::vec((any::<bool>(), 0usize..200), 16)) {
            let mut text = String::new();
            for (l, (whole, cut)) in TEXT.lines().zip(keep) {
                text += if whole { l } else { l.get(..cut).unwrap_or("") };
                text.push('\n');
            }
            let c = convert(&text);
            well_formed(&c.json);
            let again: Value = serde_json::from_str(&c.json.to_string()).unwrap();
            prop_assert_eq!(again, c.json);
        }
    }
}
