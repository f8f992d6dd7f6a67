//! Random names and passwords.

/// `N` bytes from the operating system, as lowercase hex.
///
/// # Panics
/// When the operating system has no randomness to give, which no later code could work around.
pub fn hex<const N: usize>() -> String {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    hex::encode(bytes)
}

/// A number in `0.0..1.0`.
pub fn unit() -> f64 {
    let mut bytes = [0_u8; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
