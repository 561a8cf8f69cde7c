//! Which shell or template serves a want best, and what class a want asks for. Pure.

use super::Want;
use crate::hypervisor::Share;
use crate::vocab::Timestamp;
use crate::vocab::image::Image;
use crate::vocab::pool::Class;

/// Sizes of memory that a class made for wants begins at, MiB: few, so that different wants share a
/// template, and below the want, because memory only grows.
const LADDER_MIB: [u64; 9] = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/// How well a class serves a want; smaller is better: the fewest vCPUs that are enough, the most
/// memory that is not too much, a card that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fitness {
    spare_vcpus: u32,
    pub added_mib: u64,
    attaches_card: bool,
}

/// None where the class cannot become what is wanted. Image and key are the caller's to compare.
pub fn fitness(class: &Class, want: &Want, growth_mib: u64) -> Option<Fitness> {
    let size = &want.size;
    let added_mib = size.memory_mib.checked_sub(class.memory_mib)?;
    let fits = class.image == want.image.name
        && class.trust == want.trust
        && class.vcpus >= size.vcpus
        && added_mib <= growth_mib
        // A disk is as large as its template's, and a card in a shell has no limit of its own.
        && size.disk_mib <= want.image.disk_mib
        && !(want.network && size.network_kbytes_per_s.is_some())
        && (want.network || !class.network);
    fits.then(|| Fitness {
        spare_vcpus: class.vcpus - size.vcpus,
        added_mib,
        attaches_card: want.network && !class.network,
    })
}

/// The best of several, the oldest among equals.
pub fn best<'a, T>(
    candidates: impl Iterator<Item = (&'a Class, Timestamp, T)>,
    want: &Want,
    growth_mib: u64,
) -> Option<(Fitness, T)> {
    candidates
        .filter_map(|(class, made_at, item)| {
            Some((fitness(class, want, growth_mib)?, made_at, item))
        })
        .min_by_key(|(fitness, made_at, _)| (*fitness, *made_at))
        .map(|(fitness, _, item)| (fitness, item))
}

/// The share of the host that turns a shell of the class into what is wanted.
pub fn share(class: &Class, want: &Want) -> Share {
    Share {
        cpu_percent: (class.vcpus > want.size.vcpus).then_some(100 * want.size.vcpus),
        added_memory_mib: want.size.memory_mib.saturating_sub(class.memory_mib),
    }
}

/// Why no shell can ever serve this want, whatever the pool keeps; none where one can.
pub fn never(want: &Want) -> Option<String> {
    if let Some(why) = want.image.unfit_for_stages() {
        return Some(why);
    }
    if want.size.disk_mib > want.image.disk_mib {
        return Some(format!(
            "a shell's disk is as large as its image's, {} MiB, and {} MiB are wanted",
            want.image.disk_mib, want.size.disk_mib
        ));
    }
    if want.network && want.size.network_kbytes_per_s.is_some() {
        return Some("a shell's network card has no limit, and one is wanted".to_owned());
    }
    None
}

/// The class that would have served a want, for people to set and for the pool to make by use.
pub fn class_for(want: &Want, growth_mib: u64) -> Class {
    Class {
        image: want.image.name.clone(),
        vcpus: want.size.vcpus,
        memory_mib: floor_mib(&want.image, want.size.memory_mib, growth_mib),
        network: want.network,
        trust: want.trust.clone(),
    }
}

fn floor_mib(image: &Image, wanted_mib: u64, growth_mib: u64) -> u64 {
    LADDER_MIB
        .into_iter()
        .rfind(|step| {
            *step >= image.min_memory_mib && *step <= wanted_mib && wanted_mib - step <= growth_mib
        })
        .unwrap_or(wanted_mib)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::Digest;
    use crate::vocab::image::{GuestAgent, ImagePart};
    use crate::vocab::machine::Size;
    use crate::vocab::pool::TrustDomain;

    fn want(vcpus: u32, memory_mib: u64) -> Want {
        let part = || ImagePart {
            path: "x".into(),
            digest: Digest::of(b"x"),
            size_bytes: 1,
        };
        Want {
            key: "k".into(),
            image: Image {
                name: "tiny".into(),
                digest: Digest::of(b"d"),
                key: Digest::of(b"k"),
                description: String::new(),
                os: String::new(),
                cmdline: String::new(),
                agent: GuestAgent::default(),
                min_memory_mib: 100,
                warm_up: vec![],
                disk_mib: 64,
                kernel: part(),
                initrd: part(),
                disk: part(),
                built_at: Timestamp(0),
                build_seconds: 0.0,
            },
            size: Size {
                vcpus,
                memory_mib,
                disk_mib: 64,
                network_kbytes_per_s: None,
            },
            network: false,
            trust: TrustDomain::default(),
            owner: "test".into(),
            client: "default".into(),
            ttl: None,
        }
    }

    fn chosen(classes: &[&str], want: &Want) -> Option<String> {
        let classes: Vec<Class> = classes.iter().map(|text| text.parse().unwrap()).collect();
        best(
            classes.iter().map(|class| (class, Timestamp(0), class)),
            want,
            1024,
        )
        .map(|(_, class)| class.to_string())
    }

    #[test]
    fn the_fewest_vcpus_and_the_largest_floor_that_serve() {
        let classes = [
            "tiny:1x128",
            "tiny:2x128",
            "tiny:2x256",
            "tiny:4x512",
            "tiny:2x2048",
        ];
        assert_eq!(
            chosen(&classes, &want(1, 128)).as_deref(),
            Some("tiny:1x128")
        );
        assert_eq!(
            chosen(&classes, &want(2, 1024)).as_deref(),
            Some("tiny:2x256")
        );
        assert_eq!(
            chosen(&classes, &want(3, 600)).as_deref(),
            Some("tiny:4x512")
        );
        assert_eq!(chosen(&classes, &want(8, 600)), None);
        assert_eq!(
            chosen(&["tiny:1x128"], &want(1, 128 + 1025)),
            None,
            "more than can be added"
        );
        assert_eq!(
            chosen(&["tiny:1x256"], &want(1, 128)),
            None,
            "more than was wanted"
        );
    }

    #[test]
    fn trust_network_disk_and_limits_are_kept() {
        assert_eq!(chosen(&["tiny:1x128@acme"], &want(1, 128)), None);
        assert_eq!(chosen(&["tiny:1x128+net"], &want(1, 128)), None);
        let mut networked = want(1, 128);
        networked.network = true;
        assert_eq!(
            chosen(&["tiny:1x128", "tiny:1x128+net"], &networked).as_deref(),
            Some("tiny:1x128+net")
        );
        assert_eq!(
            chosen(&["tiny:1x128"], &networked).as_deref(),
            Some("tiny:1x128")
        );
        networked.size.network_kbytes_per_s = Some(1);
        assert_eq!(chosen(&["tiny:1x128"], &networked), None);
        assert!(never(&networked).is_some());
        let mut large = want(1, 128);
        large.size.disk_mib = 65;
        assert!(chosen(&["tiny:1x128"], &large).is_none() && never(&large).is_some());
    }

    #[test]
    fn the_share_is_what_was_wanted() {
        let class: Class = "tiny:4x256".parse().unwrap();
        let share = share(&class, &want(2, 300));
        assert_eq!((share.cpu_percent, share.added_memory_mib), (Some(200), 44));
        let exact = super::share(&"tiny:1x128".parse().unwrap(), &want(1, 128));
        assert_eq!((exact.cpu_percent, exact.added_memory_mib), (None, 0));
    }

    #[test]
    fn wants_of_about_one_size_share_a_class() {
        assert_eq!(class_for(&want(1, 700), 1024).to_string(), "tiny:1x512");
        assert_eq!(
            class_for(&want(1, 120), 1024).to_string(),
            "tiny:1x120",
            "below the image's minimum"
        );
        assert_eq!(
            class_for(&want(1, 700), 0).to_string(),
            "tiny:1x700",
            "nothing can be added"
        );
    }
}
