//! The PCI tree of a host.
//!
//! ```text
//!   node 0                                  a root complex: processors and memory
//!    ├─ 0000:16:00.0  switch                the upstream port stands for the whole switch
//!    │    ├─ 0000:18:00.0  gpu              functions below it
//!    │    └─ 0000:1a:00.0  nic
//!    └─ 0000:3a:00.0  nic                   straight at the root complex
//! ```
//!
//! A function names its parent by index, and a parent comes before its children: whoever walks up always ends.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// Where a function sits: `0000:18:00.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The domain, or segment.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device on the bus: below 32 on a real one. NCCL writes `fffffff:ff:ff.0` for a place that it does not know.
    pub device: u8,
    /// The function of the device, below 8.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function))
    }
}

/// A text that is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    /// Reads `0000:18:00.0`, with a longer domain as virtual machines have it (`10000:00:00.0`), or with none.
    fn from_str(text: &str) -> Result<Address, NoAddress> {
        let hex = |text: &str, most: u32| {
            let fits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(text, 16).ok().filter(|number| fits && *number <= most).ok_or(NoAddress)
        };
        let (place, function) = text.rsplit_once('.').ok_or(NoAddress)?;
        let (front, device) = place.rsplit_once(':').ok_or(NoAddress)?;
        let (domain, bus) = front.rsplit_once(':').unwrap_or(("0", front));
        Ok(Address {
            domain: hex(domain, u32::MAX)?,
            bus: hex(bus, 0xff)? as u8,
            device: hex(device, 0xff)? as u8,
            function: hex(function, 7)? as u8,
        })
    }
}

/// Base classes of functions, the first byte of [`Pci::class`].
const BRIDGE: u32 = 0x06;
const NETWORK: u32 = 0x02;
const DISPLAY: u32 = 0x03;
const ACCELERATOR: u32 = 0x12;

/// A function, or a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pci {
    /// Where it sits.
    pub address: Address,
    /// Its class as sysfs has it, 24 bits: 0x060400 a bridge, 0x030200 a GPU, 0x020000 an Ethernet controller.
    pub class: u32,
    /// Maker and model, then those of the board; 0 when unknown.
    pub ids: [u16; 4],
    /// Megatransfers a second on each lane of its link upwards: 16000 for 16.0 GT/s. 0 when unknown.
    pub speed: u32,
    /// Lanes of that link, 0 when unknown.
    pub width: u32,
    /// Index of what it hangs below; nothing at a root complex.
    pub parent: Option<u32>,
    /// Index into [`super::Host::nodes`]: whose root complex it hangs at.
    pub node: u32,
}

impl Pci {
    /// Whether it is a bridge or a switch.
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == BRIDGE
    }

    /// Whether it is a network controller.
    pub fn is_network(&self) -> bool {
        self.class >> 16 == NETWORK
    }

    /// Whether it is a GPU or another accelerator.
    pub fn is_gpu(&self) -> bool {
        matches!(self.class >> 16, DISPLAY | ACCELERATOR)
    }

    /// Megabytes a second over its link upwards. Per lane and generation what is left of the raw rate is the table that NCCL uses too; a
    /// link that says nothing of itself counts as one of the third generation with sixteen lanes.
    pub fn bandwidth(&self) -> u32 {
        let lane = match self.speed {
            0 => 750,
            1..=2_500 => 187,
            2_501..=5_000 => 375,
            5_001..=8_000 => 750,
            8_001..=16_000 => 1_500,
            16_001..=32_000 => 3_000,
            _ => 6_000,
        };
        lane * if self.width == 0 { 16 } else { self.width.min(64) }
    }
}

/// The speed of a link as sysfs and NCCL write it: `16.0 GT/s PCIe`, `8 GT/s`. Nothing when it is not one.
pub fn parse_speed(text: &str) -> Option<u32> {
    let number = text.trim().split_ascii_whitespace().next()?;
    if !text.contains("GT/s") {
        return None;
    }
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, part): (u32, u32) = (whole.parse().ok()?, part.get(..1)?.parse().ok()?);
    (whole <= 1_000).then(|| whole * 1_000 + part * 100)
}

/// The same, written: `16.0 GT/s PCIe`.
pub fn speed_text(speed: u32) -> String {
    format!("{}.{} GT/s PCIe", speed / 1_000, speed % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["0000:18:00.0", "ffff:ff:1f.7", "10000:3b:00.1", "0008:06:00.0", "fffffff:ff:ff.0"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_string()));
        }
        assert_eq!("18:00.0".parse::<Address>().unwrap().to_string(), "0000:18:00.0");
        assert_eq!("0000:1A:00.0".parse::<Address>().unwrap().bus, 0x1a);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "18",
            "0000:18:00",
            "0000:18:100.0",
            "0000:18:00.8",
            "0000:100:00.0",
            "x:18:00.0",
            "0:0:0:18:00.0",
            "-1:18:00.0",
            ":18:00.0",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn speeds_are_read_with_and_without_a_fraction() {
        for (text, speed) in
            [("2.5 GT/s PCIe", 2_500), ("8 GT/s", 8_000), ("32.0 GT/s PCIe", 32_000), ("16.0 GT/s", 16_000)]
        {
            assert_eq!(parse_speed(text), Some(speed), "{text}");
        }
        for text in ["", "Unknown", "Unknown speed", "fast GT/s", "99999999999 GT/s", "16.0"] {
            assert_eq!(parse_speed(text), None, "{text}");
        }
        assert_eq!(speed_text(2_500), "2.5 GT/s PCIe");
    }

    #[test]
    fn bandwidth_doubles_with_each_generation() {
        let link = |speed, width| Pci { speed, width, ..Pci::default() }.bandwidth();
        assert_eq!(
            (link(8_000, 16), link(16_000, 16), link(32_000, 16), link(16_000, 8)),
            (12_000, 24_000, 48_000, 12_000)
        );
        assert_eq!(link(0, 0), link(8_000, 16));
    }
}
