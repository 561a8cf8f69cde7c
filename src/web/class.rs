//! Classes as requests name them: read with all faults at once, and completed from the image.

use super::App;
use super::refusal::{Refusal, Why};
use crate::api::{ProblemFault, WhichClass};
use crate::images::ImageError;
use crate::vocab::device::is_plain_name;
use crate::vocab::image::Image;
use crate::vocab::pool::{Class, TrustDomain};

/// The largest guest that a class may have, MiB: 16 TiB, as in a class's written form.
pub const MOST_MEMORY_MIB: u64 = 1 << 24;

/// What a request names, checked as far as it can be without the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Class(Class),
    /// The image, and what differs from what it says.
    Image {
        image: String,
        vcpus: u32,
        memory_mib: Option<u64>,
        network: bool,
        trust: TrustDomain,
    },
}

pub fn fault(
    path: &str,
    detail: impl Into<String>,
    expected: impl Into<Option<&'static str>>,
) -> ProblemFault {
    ProblemFault {
        path: path.into(),
        line: None,
        column: None,
        detail: detail.into(),
        expected: expected.into().map(str::to_owned),
        suggestion: None,
    }
}

pub fn invalid(faults: Vec<ProblemFault>) -> Refusal {
    let count = match faults.len() {
        1 => "one fault".to_owned(),
        n => format!("{n} faults"),
    };
    Refusal::invalid(format!("the request has {count}"), faults)
}

pub fn read(which: &WhichClass) -> Result<Named, Vec<ProblemFault>> {
    let mut faults = Vec::new();
    let is_class = which.of.contains([':', '+', '@']);
    if is_class {
        let given = [
            ("vcpus", which.vcpus.is_some()),
            ("memory_mib", which.memory_mib.is_some()),
            ("network", which.network.is_some()),
            ("trust", which.trust.is_some()),
        ];
        for (path, _) in given.into_iter().filter(|(_, given)| *given) {
            let detail = format!("the class {:?} says it already", which.of);
            faults.push(fault(
                path,
                detail,
                "either a whole class, or an image and this",
            ));
        }
        match which.of.parse() {
            Ok(class) if faults.is_empty() => return Ok(Named::Class(class)),
            Ok(_) => {}
            Err(error) => faults.push(fault("of", format!("{error}"), None)),
        }
        return Err(faults);
    }
    if !is_plain_name(&which.of) {
        let detail = format!("{:?} is no image's name and no class", which.of);
        let expected = "an image such as toolbox, or a class such as toolbox:2x1024+net";
        faults.push(fault("of", detail, expected));
    }
    faults.extend(check_size(which.vcpus, which.memory_mib));
    let trust = which
        .trust
        .clone()
        .map_or_else(TrustDomain::default, TrustDomain);
    if !is_plain_name(&trust.0) {
        let detail = format!("{:?} is not a plain name", trust.0);
        faults.push(fault("trust", detail, PLAIN));
    }
    if faults.is_empty() {
        Ok(Named::Image {
            image: which.of.clone(),
            vcpus: which.vcpus.unwrap_or(1),
            memory_mib: which.memory_mib,
            network: which.network.unwrap_or(false),
            trust,
        })
    } else {
        Err(faults)
    }
}

pub const PLAIN: &str =
    "a letter or digit, then letters, digits, `.`, `_` and `-`, at most 64 in all";

pub fn check_size(vcpus: Option<u32>, memory_mib: Option<u64>) -> Vec<ProblemFault> {
    let mut faults = Vec::new();
    if let Some(vcpus) = vcpus
        && !(1..=255).contains(&vcpus)
    {
        let detail = format!("{vcpus} is no number of vCPUs");
        faults.push(fault("vcpus", detail, "1 to 255"));
    }
    if let Some(memory) = memory_mib
        && !(64..=MOST_MEMORY_MIB).contains(&memory)
    {
        let detail = format!("{memory} MiB is no size of a machine");
        faults.push(fault("memory_mib", detail, "64 to 16777216"));
    }
    faults
}

/// Of the classes of one image, the one that its name alone means: the only one there is, else the only
/// one of the trust domain `default`. None where that is still more than one.
pub fn meant_by_image(mut classes: Vec<&Class>) -> Result<Option<&Class>, Vec<&Class>> {
    classes.sort();
    classes.dedup();
    if classes.len() > 1 && classes.iter().any(|class| is_default(class)) {
        classes.retain(|class| is_default(class));
    }
    match classes.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(classes),
    }
}

fn is_default(class: &Class) -> bool {
    class.trust == TrustDomain::default()
}

/// The refusal of a name that means several classes.
pub fn ambiguous(image: &str, classes: &[&Class]) -> Refusal {
    let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
    Refusal::mistake(format!(
        "there is more than one class of {image}; name one of {}",
        classes.join(", ")
    ))
}

/// Completes a class from its image, which has to be built.
pub async fn with_image(app: &App, named: Named) -> Result<(Class, Image), Refusal> {
    let name = match &named {
        Named::Class(class) => &class.image,
        Named::Image { image, .. } => image,
    };
    let image = image(app, name).await?;
    let class = match named {
        Named::Class(class) => class,
        Named::Image {
            vcpus,
            memory_mib,
            network,
            trust,
            ..
        } => Class {
            image: image.name.clone(),
            vcpus,
            memory_mib: memory_mib.unwrap_or(image.min_memory_mib),
            network,
            trust,
        },
    };
    if let Some(why) = image.unfit_for_stages() {
        return Err(invalid(vec![fault("of", why, None)]));
    }
    if let Some(fault) = too_little(&image, class.memory_mib) {
        return Err(invalid(vec![fault]));
    }
    Ok((class, image))
}

/// A guest that could not boot.
pub fn too_little(image: &Image, memory_mib: u64) -> Option<ProblemFault> {
    (memory_mib < image.min_memory_mib).then(|| {
        let detail = format!(
            "image {} does not boot with {memory_mib} MiB; it needs {}",
            image.name, image.min_memory_mib
        );
        fault("memory_mib", detail, None)
    })
}

/// A built image; a refusal names those that there are.
pub async fn image(app: &App, name: &str) -> Result<Image, Refusal> {
    let (images, name) = (app.state.images.clone(), name.to_owned());
    crate::blocking::run(move || {
        images.get(&name).map_err(|error| match error {
            ImageError::Missing { .. } => {
                let known: Vec<String> = images
                    .list()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|image| image.name)
                    .collect();
                let known = if known.is_empty() {
                    "none is built yet".to_owned()
                } else {
                    format!("there are: {}", known.join(", "))
                };
                Refusal::new(
                    Why::NotFound,
                    format!(
                        "there is no image {name:?}; {known}; build one with `greenroom image build NAME`"
                    ),
                )
            }
            other => other.into(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> WhichClass {
        WhichClass {
            of: text.into(),
            ..WhichClass::default()
        }
    }

    #[test]
    fn a_class_is_named_whole_or_by_its_image() {
        let class = read(&of("tiny:2x256+net@acme")).unwrap();
        assert!(matches!(class, Named::Class(class) if class.vcpus == 2 && class.network));
        let image = read(&WhichClass {
            vcpus: Some(4),
            ..of("tiny")
        });
        assert!(matches!(
            image,
            Ok(Named::Image {
                vcpus: 4,
                memory_mib: None,
                ..
            })
        ));
    }

    #[test]
    fn an_image_alone_means_the_plain_class_where_there_are_several() {
        let classes: Vec<Class> = ["tiny:1x128@acme", "tiny:1x128", "tiny:1x128", "tiny:2x128"]
            .map(|text| text.parse().unwrap())
            .into();
        let meant = |range: std::ops::Range<usize>| meant_by_image(classes[range].iter().collect());
        assert_eq!(meant(0..0), Ok(None));
        assert_eq!(meant(0..1), Ok(Some(&classes[0])));
        assert_eq!(meant(0..3), Ok(Some(&classes[1])));
        assert_eq!(meant(0..4), Err(vec![&classes[1], &classes[3]]));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let paths = |which: &WhichClass| -> Vec<String> {
            let faults = read(which).unwrap_err();
            faults.into_iter().map(|fault| fault.path).collect()
        };
        let which = WhichClass {
            vcpus: Some(0),
            memory_mib: Some(1),
            trust: Some("a b".into()),
            ..of("no image")
        };
        assert_eq!(paths(&which), ["of", "vcpus", "memory_mib", "trust"]);
        let which = WhichClass {
            vcpus: Some(1),
            ..of("tiny:1")
        };
        assert_eq!(paths(&which), ["vcpus", "of"]);
    }
}
