//! What the Fixed ACPI Description Table says of events (ACPI 6.5, table 5.9).

/// The part that is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fadt {
    /// The ISA interrupt of events.
    pub(super) sci: u32,
    pub(super) smi_command: u16,
    pub(super) acpi_enable: u8,
    /// The PM1a event block: first port and length, a multiple of four.
    pub(super) pm1_events: u16,
    pub(super) pm1_len: u16,
    pub(super) pm1_control: u16,
    /// The block of general-purpose events: first port and length, half of it status, half enable. Length 0: there is none.
    pub(super) gpe0: u16,
    pub(super) gpe0_len: u16,
    /// The power button is an event of PM1, not a device of its own.
    pub(super) fixed_power_button: bool,
    pub(super) hardware_reduced: bool,
}

const POWER_BUTTON_IS_A_DEVICE: u32 = 1 << 4;
const HARDWARE_REDUCED: u32 = 1 << 20;

impl Fadt {
    /// Reads a table, header included. `None` if it is short, or names ports that do not exist.
    pub(super) fn parse(t: &[u8]) -> Option<Fadt> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(t.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(t.get(at..at + 4)?.try_into().ok()?));
        let port = |at: usize| u16::try_from(u32_at(at)?).ok();
        let flags = u32_at(112)?;
        let hardware_reduced = flags & HARDWARE_REDUCED != 0;
        let (pm1_events, pm1_len) = (port(56)?, u16::from(*t.get(88)?));
        if !hardware_reduced && (pm1_events == 0 || pm1_len < 4 || pm1_len % 4 != 0) {
            return None;
        }
        let (gpe0, gpe0_len) = (port(80)?, u16::from(*t.get(92)?) & !1);
        Some(Fadt {
            sci: u16_at(46)?.into(),
            smi_command: port(48)?,
            acpi_enable: *t.get(52)?,
            pm1_events,
            pm1_len,
            pm1_control: port(64)?,
            gpe0,
            gpe0_len: if gpe0 == 0 { 0 } else { gpe0_len },
            fixed_power_button: flags & POWER_BUTTON_IS_A_DEVICE == 0,
            hardware_reduced,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        let mut t = vec![0; 116];
        t[46] = 9;
        t[48] = 0xb2;
        t[52] = 2;
        t[56..58].copy_from_slice(&0x600u16.to_le_bytes());
        t[64..66].copy_from_slice(&0x604u16.to_le_bytes());
        t[80..82].copy_from_slice(&0x620u16.to_le_bytes());
        t[88] = 4;
        t[92] = 16;
        t
    }

    #[test]
    fn q35_is_understood() {
        let f = Fadt::parse(&table()).unwrap();
        assert_eq!((f.sci, f.smi_command, f.acpi_enable), (9, 0xb2, 2));
        assert_eq!((f.pm1_events, f.pm1_len, f.pm1_control), (0x600, 4, 0x604));
        assert_eq!((f.gpe0, f.gpe0_len), (0x620, 16));
        assert!(f.fixed_power_button && !f.hardware_reduced);
    }

    #[test]
    fn nonsense_is_refused() {
        for cut in 0..116 {
            assert_eq!(Fadt::parse(&table()[..cut]), None, "cut at {cut}");
        }
        let mut t = table();
        t[58] = 1;
        assert_eq!(Fadt::parse(&t), None, "a port beyond the last");
        let mut t = table();
        t[88] = 2;
        assert_eq!(Fadt::parse(&t), None, "no room for two registers");
    }
}
