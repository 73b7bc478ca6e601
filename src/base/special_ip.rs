//! Classifies IP addresses by the IANA special-purpose registries (RFC 6890 and its successors).
//!
//! An IPv6 address can embed an IPv4 address (mapped, translated, tunnelled). A check of the outer
//! address alone would accept `[::ffff:169.254.169.254]`. So [`address_kind`] and
//! [`Cidr::contains`] check the embedded address. An address that is not known to be global counts
//! as not global.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The purpose for which a range of addresses is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// The public internet.
    Global,
    /// This machine: `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918: `10/8`, `172.16/12`, `192.168/16`.
    Private,
    /// RFC 4193: `fc00::/7`, the private networks of IPv6.
    UniqueLocal,
    /// RFC 6598: `100.64.0.0/10`, for carrier-grade NAT and overlay networks.
    SharedCgnat,
    /// RFC 6890: `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// RFC 3879: `fec0::/10`, deprecated, but still routed in some networks.
    SiteLocal,
    /// The metadata services of clouds, which give credentials to their machines, in any range.
    Metadata,
    /// Multicast: `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `0.0.0.0/8`, `::`. Many systems treat them as "this machine".
    Unspecified,
    /// For examples in documents: RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// For benchmarks: RFC 2544, RFC 5180.
    Benchmark,
    /// All other reserved ranges, and unassigned ones.
    Reserved,
}

impl AddressKind {
    /// Whether the kind is for private networks behind a router.
    pub fn is_private(self) -> bool {
        matches!(self, Self::Private | Self::UniqueLocal | Self::SharedCgnat)
    }

    /// Whether no remote party may name such an address: no service for remote parties is there.
    pub fn is_never_allowed(self) -> bool {
        matches!(self, Self::LinkLocal | Self::Metadata | Self::Multicast | Self::Unspecified)
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::UniqueLocal => "unique local",
            Self::SharedCgnat => "shared (carrier-grade NAT)",
            Self::LinkLocal => "link-local",
            Self::SiteLocal => "site-local",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Reserved => "reserved",
        })
    }
}

/// Returns the kind of `address`, or of the IPv4 address that it embeds.
pub fn address_kind(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(Embedded { inner, reaches_it: true }) => kind_v4(inner),
            // A deprecated or local route is never global. A special inner address keeps its kind.
            Some(Embedded { inner, reaches_it: false }) => match kind_v4(inner) {
                AddressKind::Global => AddressKind::Reserved,
                special @ (AddressKind::Loopback
                | AddressKind::Private
                | AddressKind::UniqueLocal
                | AddressKind::SharedCgnat
                | AddressKind::LinkLocal
                | AddressKind::SiteLocal
                | AddressKind::Metadata
                | AddressKind::Multicast
                | AddressKind::Unspecified
                | AddressKind::Documentation
                | AddressKind::Benchmark
                | AddressKind::Reserved) => special,
            },
            None => kind_v6(v6),
        },
    }
}

/// Returns the IPv4 address in a mapped, compatible, translated, NAT64, 6to4 or Teredo address,
/// else the address itself. For checks and display; connect to the original.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded(v6).map_or(address, |embedded| IpAddr::V4(embedded.inner)),
    }
}

/// Returns what rate limits count: an IPv4 address, or the /64 of an IPv6 address, because a client
/// with one address of a /64 can use all of it.
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
    }
}

/// An IPv4 address inside an IPv6 address.
struct Embedded {
    inner: Ipv4Addr,
    /// Whether the IPv6 address is still a working route to `inner`.
    reaches_it: bool,
}

fn embedded(v6: Ipv6Addr) -> Option<Embedded> {
    let s = v6.segments();
    let from_parts = |high: u16, low: u16, reaches_it| {
        let inner = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        Some(Embedded { inner, reaches_it })
    };
    match s {
        // `::` and `::1` are not IPv4-compatible addresses (RFC 4291 §2.5.5.1).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0xffff, high, low]      // mapped, RFC 4291 §2.5.5.2
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] // NAT64, RFC 6052
        | [0x2002, high, low, ..] => from_parts(high, low, true), // 6to4, RFC 3056
        // IPv4-compatible (RFC 4291 §2.5.5.1), translated (RFC 7915), local NAT64 (RFC 8215).
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            from_parts(high, low, false)
        }
        // Teredo inverts the bits of the client's address (RFC 4380 §4).
        [0x2001, 0, _, _, _, _, high, low] => from_parts(!high, !low, false),
        _ => None,
    }
}

fn kind_v4(v4: Ipv4Addr) -> AddressKind {
    match v4.octets() {
        [169, 254, 169, 254]        // AWS, Google, Azure and most other clouds
        | [169, 254, 170, 2 | 23]   // AWS containers and pods
        | [100, 100, 100, 200]      // Alibaba
        | [192, 0, 0, 192]          // Oracle
        | [168, 63, 129, 16] => AddressKind::Metadata, // Azure's WireServer, in a public range
        [0, ..] => AddressKind::Unspecified,
        [127, ..] => AddressKind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressKind::Private,
        [100, 64..=127, ..] => AddressKind::SharedCgnat,
        [169, 254, ..] => AddressKind::LinkLocal,
        [192, 0, 0, 9 | 10] => AddressKind::Global, // anycast in 192.0.0.0/24, RFC 7723, RFC 8155
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => AddressKind::Documentation,
        [198, 18..=19, ..] => AddressKind::Benchmark,
        [224..=239, ..] => AddressKind::Multicast,
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => AddressKind::Reserved,
        _ => AddressKind::Global,
    }
}

fn kind_v6(v6: Ipv6Addr) -> AddressKind {
    match v6.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]          // AWS
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => AddressKind::Metadata, // Google
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressKind::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        [0xff00..=0xffff, ..] => AddressKind::Multicast,
        [0xfe80..=0xfebf, ..] => AddressKind::LinkLocal,
        [0xfec0..=0xfeff, ..] => AddressKind::SiteLocal,
        [0xfc00..=0xfdff, ..] => AddressKind::UniqueLocal,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressKind::Documentation,
        [0x2001, 2, 0, ..] => AddressKind::Benchmark,
        [0x2001, 1, 0, 0, 0, 0, 0, 1..=3]                // anycast, RFC 7723, RFC 8155, RFC 9665
        | [0x2001, 3 | 0x20..=0x3f, ..]                  // AMT, ORCHIDv2, DRIP
        | [0x2001, 4, 0x0112, ..] => AddressKind::Global,       // AS112
        [0x2001, 0..=0x01ff, ..] => AddressKind::Reserved,      // IETF assignments, RFC 2928
        [0x2000..=0x3fff, ..] => AddressKind::Global,
        _ => AddressKind::Reserved,
    }
}

/// Whether the IPv4 address in a 6to4 or Teredo address is not its last 32 bits: 6to4 has it at the
/// front, and Teredo inverts it.
fn is_tunnel(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [0x2002, ..] | [0x2001, 0, ..])
}

/// A block (`10.1.0.0/16`) or one address. A mapped or translated form means the IPv4 block in it. A
/// block of 6to4 or Teredo addresses means these addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether the block contains every address of its family.
    pub fn is_any(&self) -> bool {
        self.bits == 0
    }

    /// Whether the block contains `address`, or the IPv4 address that it embeds.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(address) || self.covers(canonical(address))
    }

    /// Whether the block contains `address` itself, whatever it embeds. For trusted addresses.
    pub fn covers(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// The reason why a text is not a block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is not an IP address.
    #[error("not an IP address")]
    Address,
    /// The part after the slash is not a valid length for the address.
    #[error("the length after the slash does not fit the address")]
    Length,
    /// Bits are set beyond the length, so the address or the length is wrong.
    #[error("bits are set beyond the length after the slash")]
    HostBits,
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// # Errors
    /// If the text is not `address` or `address/length`, or bits are set beyond the length.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let max_bits = if network.is_ipv4() { 32 } else { 128 };
        let bits = match length {
            Some(length) => length.parse().map_err(|_| CidrError::Length)?,
            None => max_bits,
        };
        if bits > max_bits {
            return Err(CidrError::Length);
        }
        let host_bits_are_zero = match network {
            IpAddr::V4(v4) => u32::from(v4).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
            IpAddr::V6(v6) => u128::from(v6).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
        };
        if !host_bits_are_zero {
            return Err(CidrError::HostBits);
        }
        Ok(match (network, canonical(network)) {
            (IpAddr::V6(v6), inner @ IpAddr::V4(_)) if bits >= 96 && !is_tunnel(v6) => Self {
                network: inner,
                bits: bits - 96,
            },
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Self { network, bits },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn special_ip_ranges_are_classified_correctly_at_both_ends() {
        let table = [
            (
                AddressKind::Global,
                "1.1.1.1 9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 100.63.255.255 100.128.0.0",
            ),
            (
                AddressKind::Global,
                "126.255.255.255 128.0.0.0 169.253.255.255 169.255.0.0 192.167.255.255 192.169.0.0",
            ),
            (
                AddressKind::Global,
                "198.17.255.255 198.20.0.0 223.255.255.255 192.0.0.9 192.0.0.10 192.31.196.1",
            ),
            (
                AddressKind::Global,
                "2606:4700::1111 2001:4860:4860::8888 2001:1::1 2001:20::1 2001:30::1 2001:200:: 3ffe::1",
            ),
            (AddressKind::Loopback, "127.0.0.1 127.0.0.0 127.255.255.255 ::1"),
            (
                AddressKind::Private,
                "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255",
            ),
            (AddressKind::SharedCgnat, "100.64.0.0 100.127.255.255"),
            (AddressKind::LinkLocal, "169.254.0.0 169.254.255.255 fe80:: febf:ffff::1"),
            (AddressKind::SiteLocal, "fec0:: feff:ffff::1"),
            (AddressKind::UniqueLocal, "fc00:: fdff:ffff::1"),
            (
                AddressKind::Metadata,
                "169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16",
            ),
            (AddressKind::Metadata, "fd00:ec2::254 fd20:ce::254"),
            (AddressKind::Multicast, "224.0.0.0 239.255.255.255 ff00:: ffff:ffff::1"),
            (AddressKind::Unspecified, "0.0.0.0 0.255.255.255 ::"),
            (
                AddressKind::Documentation,
                "192.0.2.1 198.51.100.255 203.0.113.0 2001:db8:: 2001:db8:ffff::1 3fff:: 3fff:fff::1",
            ),
            (AddressKind::Benchmark, "198.18.0.0 198.19.255.255 2001:2::1"),
            (
                AddressKind::Reserved,
                "192.0.0.0 192.88.99.1 240.0.0.0 255.255.255.255 100::1 5f00::1 4000::1 1::1 2001:10::1",
            ),
        ];
        for (expected, addresses) in table {
            for text in addresses.split(' ') {
                assert_eq!(address_kind(ip(text)), expected, "{text}");
            }
        }
    }

    #[test]
    fn an_embedded_ipv4_address_decides_the_classification() {
        for (text, inner, expected) in [
            ("::ffff:169.254.169.254", "169.254.169.254", AddressKind::Metadata),
            ("::ffff:127.0.0.1", "127.0.0.1", AddressKind::Loopback),
            ("::ffff:8.8.8.8", "8.8.8.8", AddressKind::Global),
            ("::127.0.0.1", "127.0.0.1", AddressKind::Loopback),
            ("::8.8.8.8", "8.8.8.8", AddressKind::Reserved),
            ("64:ff9b::10.0.0.1", "10.0.0.1", AddressKind::Private),
            ("64:ff9b::8.8.8.8", "8.8.8.8", AddressKind::Global),
            ("64:ff9b:1::a9fe:a9fe", "169.254.169.254", AddressKind::Metadata),
            ("64:ff9b:1::8.8.8.8", "8.8.8.8", AddressKind::Reserved),
            ("2002:7f00:1::1", "127.0.0.1", AddressKind::Loopback),
            ("2002:808:808::1", "8.8.8.8", AddressKind::Global),
            ("::ffff:0:10.0.0.1", "10.0.0.1", AddressKind::Private),
            // 169.254.169.254, with all bits inverted
            ("2001:0:4136:e378:8000:63bf:5601:5601", "169.254.169.254", AddressKind::Metadata),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "8.8.8.8", AddressKind::Reserved),
        ] {
            assert_eq!(canonical(ip(text)), ip(inner), "{text}");
            assert_eq!(address_kind(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn an_ordinary_address_is_its_own_canonical_form() {
        for text in ["1.2.3.4", "::1", "::", "2606:4700::1111", "fe80::1"] {
            assert_eq!(canonical(ip(text)), ip(text));
        }
    }

    #[test]
    fn the_rate_limit_key_is_an_ipv6_64_prefix_or_ipv4_address() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
            ("::1", "::"),
        ] {
            assert_eq!(rate_limit_key(ip(text)), ip(expected), "{text}");
        }
    }

    #[test]
    fn a_cidr_block_contains_exactly_its_addresses() {
        let block: Cidr = "10.1.0.0/16".parse().expect("block");
        assert!(block.contains(ip("10.1.255.255")));
        assert!(block.contains(ip("::ffff:10.1.2.3")));
        assert!(!block.contains(ip("10.2.0.0")));
        assert!(!block.contains(ip("fd00::1")));
        assert!(block.contains(ip("2002:a01:203::1")) && !block.covers(ip("2002:a01:203::1")));
        let v6_block: Cidr = "fd12::/16".parse().expect("block");
        assert!(v6_block.contains(ip("fd12:ffff::1")) && !v6_block.contains(ip("fd13::")));
        let any_v4: Cidr = "0.0.0.0/0".parse().expect("block");
        assert!(any_v4.contains(ip("203.0.113.9")));
        let single: Cidr = "::ffff:10.0.0.7".parse().expect("address");
        assert!(single.contains(ip("10.0.0.7")) && !single.contains(ip("10.0.0.8")));
        assert_eq!(single.to_string(), "10.0.0.7/32");
    }

    #[test]
    fn a_block_of_tunnel_addresses_does_not_become_a_block_of_ipv4_addresses() {
        for text in ["2002:a01::/96", "2002::/96", "2001::/96", "2001::/120"] {
            let block: Cidr = text.parse().expect(text);
            assert_eq!(block.to_string(), text);
            assert!(!block.contains(ip("203.0.113.9")) && !block.contains(ip("10.1.2.3")), "{text}");
        }
        let block: Cidr = "2002:a01::/96".parse().expect("block");
        assert!(block.contains(ip("2002:a01::7")));
    }

    #[test]
    fn a_malformed_cidr_block_is_refused_with_its_reason() {
        for (text, expected) in [
            ("10.0.0/8", CidrError::Address),
            ("10.0.0.0/33", CidrError::Length),
            ("10.0.0.0/", CidrError::Length),
            ("fd00::/129", CidrError::Length),
            ("10.0.0.1/8", CidrError::HostBits),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(expected), "{text}");
        }
    }
}
