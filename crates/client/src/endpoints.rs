//! Where servers are.

/// The addresses of servers of one store, each `HOST:PORT`, of which a client is connected to one at a time. Made of one
/// address, or of several.
///
/// ```
/// use syncline_client::Endpoints;
/// let one: Endpoints = "127.0.0.1:6660".into();
/// let two: Endpoints = ["a.example:6660", "b.example:6660"].into();
/// assert_eq!((one.to_string(), two.to_string()), ("127.0.0.1:6660".into(), "a.example:6660, b.example:6660".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// All of them once, from the `first`-th on, each with its number.
    pub(crate) fn round(&self, first: usize) -> impl Iterator<Item = (usize, &str)> {
        let all = || self.0.iter().map(String::as_str).enumerate();
        all().skip(first).chain(all().take(first))
    }
}

impl From<&str> for Endpoints {
    fn from(address: &str) -> Self {
        Self(vec![address.to_owned()])
    }
}

impl From<String> for Endpoints {
    fn from(address: String) -> Self {
        Self(vec![address])
    }
}

impl From<&String> for Endpoints {
    fn from(address: &String) -> Self {
        Self(vec![address.clone()])
    }
}

impl<A: Into<String>> From<Vec<A>> for Endpoints {
    fn from(addresses: Vec<A>) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl<A: Into<String>, const N: usize> From<[A; N]> for Endpoints {
    fn from(addresses: [A; N]) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl std::fmt::Display for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_anywhere_and_has_each_once() {
        let endpoints = Endpoints::from(["a", "b", "c"]);
        let round = |first| endpoints.round(first).map(|(_, address)| address).collect::<String>();
        assert_eq!([round(0), round(1), round(2), round(3)], ["abc", "bca", "cab", "abc"]);
    }
}
