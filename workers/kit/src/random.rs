//! Randomness of the platform.

/// `N` random bytes from the platform's cryptographic generator.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It does not fail in a Worker, and a guessable secret would be worse than a request that ends here.
    #[expect(clippy::expect_used, reason = "crypto.getRandomValues is always there in a Worker")]
    getrandom::fill(&mut bytes).expect("crypto.getRandomValues is there");
    bytes
}

/// `N` random bytes as `2 * N` lowercase hex digits.
pub fn hex<const N: usize>() -> String {
    hex::encode(bytes::<N>())
}
