//! Symbolic links between folders of sysfs.

use alloc::string::String;

/// The text of a link at `link` to `target`, both relative to the root: up to the folder that holds both, and down. The target's own
/// name always stands in it, also where the link is below the target.
pub fn relative(link: &str, target: &str) -> String {
    let holder = target.rsplit_once('/').map_or("", |t| t.0);
    let shared = link.split('/').zip(holder.split('/')).take_while(|(a, b)| a == b).count();
    let (l, t) = (link.split('/').skip(shared), target.split('/').skip(shared));
    // The last part of `link` is the link itself.
    let mut out: String = l.skip(1).map(|_| "../").collect();
    for (i, part) in t.enumerate() {
        if i != 0 {
            out.push('/');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn links_go_up_to_the_shared_folder() {
        assert_eq!(relative("class/mem/null", "devices/virtual/mem/null"), "../../devices/virtual/mem/null");
        assert_eq!(relative("devices/virtual/mem/null/subsystem", "class/mem"), "../../../../class/mem");
        assert_eq!(relative("devices/p/d/input/input0/device", "devices/p/d"), "../../../d");
        assert_eq!(relative("dev/char/1:3", "devices/virtual/mem/null"), "../../devices/virtual/mem/null");
    }
}
