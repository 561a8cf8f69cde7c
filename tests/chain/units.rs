//! Quantities.

use greenroom::chain::units::{duration_s, rate_bytes_per_s, size_bytes};

#[test]
fn quantities_with_units() {
    assert_eq!(size_bytes("256 MiB"), Ok(256 << 20));
    assert_eq!(size_bytes("1.5GiB"), Ok(3 << 29));
    assert_eq!(size_bytes("1 GB"), Ok(1_000_000_000));
    assert_eq!(size_bytes("1 B"), Ok(1));
    assert_eq!(rate_bytes_per_s("10 MB/s"), Ok(10_000_000));
    assert_eq!(rate_bytes_per_s("8 Mbit/s"), Ok(1_000_000));
    assert_eq!(duration_s("90s"), Ok(90.0));
    assert_eq!(duration_s("1h30m"), Ok(5400.0));
    assert_eq!(duration_s("1 h 30 m 5 s"), Ok(5405.0));
    assert_eq!(duration_s("500ms"), Ok(0.5));
    assert_eq!(duration_s("1.5 h"), Ok(5400.0));
    assert_eq!(duration_s("0s"), Ok(0.0));
}

#[test]
fn a_number_alone_is_no_quantity() {
    let error = size_bytes("256").expect_err("no unit");
    assert_eq!(error.message, "it has no unit");
    assert_eq!(
        error.suggestion.as_deref(),
        Some("write for example `256 MiB`")
    );
    assert_eq!(
        duration_s("5").expect_err("no unit").suggestion.as_deref(),
        Some("write for example `5 s`")
    );
}

#[test]
fn wrong_units_are_corrected() {
    for (text, suggestion) in [
        ("10 gib", "did you mean `10 GiB`?"),
        ("10 M", "did you mean `10 MiB`?"),
        ("5 gb", "did you mean `5 GB`?"),
    ] {
        assert_eq!(
            size_bytes(text).expect_err(text).suggestion.as_deref(),
            Some(suggestion)
        );
    }
    for (text, suggestion) in [
        ("5 minutes", "did you mean `5 m`?"),
        ("2 Hours", "did you mean `2 h`?"),
        ("3 sec", "did you mean `3 s`?"),
    ] {
        assert_eq!(
            duration_s(text).expect_err(text).suggestion.as_deref(),
            Some(suggestion)
        );
    }
    assert_eq!(
        rate_bytes_per_s("10 MB")
            .expect_err("a size")
            .suggestion
            .as_deref(),
        Some("did you mean `10 MB/s`?")
    );
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        "soon",
        "-5 s",
        "5 s 5 s",
        "5 s 1 h",
        "1e3 s",
        ".5 h",
        "5. h",
        "NaN s",
        "99999999999999999999 s",
        "5 s x",
        "s",
    ] {
        assert!(duration_s(text).is_err(), "{text}");
    }
    for text in ["999999999999999 TiB", "-1 MiB", "1 MiB MiB", "MiB"] {
        assert!(size_bytes(text).is_err(), "{text}");
    }
}
