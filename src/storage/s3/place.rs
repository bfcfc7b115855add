//! Where a bucket is: its URL and its region.

use http::Uri;

use crate::error::BoxError;
use crate::storage::{Config, Error};

/// A bucket's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The URL below which objects lie, without a final slash.
    pub(super) url: String,
    pub(super) region: String,
}

impl Place {
    /// Reads it from the configuration.
    ///
    /// # Errors
    /// The region is missing, or the endpoint is no address.
    pub(super) fn of(config: &Config) -> Result<Self, Error> {
        let wrong = |what: &str, source: &str| {
            let source = BoxError::from(source.to_owned());
            Error::Other { what: what.to_owned(), source }
        };
        let bucket = &config.bucket;
        if bucket.is_empty()
            || bucket.contains(|letter: char| !letter.is_ascii_alphanumeric() && !".-_".contains(letter))
        {
            return Err(wrong(
                "the bucket's name cannot be used",
                "it has other characters than a-z, 0-9, '.' and '-'",
            ));
        }
        let region = match (config.region.as_str(), config.endpoint.is_empty()) {
            ("", true) => {
                return Err(wrong("the bucket cannot be found", "storage.region is not set: set it, or AWS_REGION"));
            }
            ("", false) => "us-east-1".to_owned(),
            (region, _) => region.to_owned(),
        };
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(wrong("the bucket cannot be found", "storage.region is no name of a region"));
        }
        let (scheme, host) = if config.endpoint.is_empty() {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            ("https", format!("s3.{region}.{domain}"))
        } else {
            let no_address = |why: &str| wrong("the endpoint of the store cannot be used", why);
            let uri: Uri = config.endpoint.parse().map_err(|_| no_address("it is no URL"))?;
            let (Some(scheme @ ("https" | "http")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(no_address("it does not begin with https:// or http://"));
            };
            if authority.as_str().contains('@') || uri.path() != "/" || uri.query().is_some() {
                return Err(no_address("it has more than a scheme, a host and a port"));
            }
            (if scheme == "https" { "https" } else { "http" }, authority.as_str().to_owned())
        };
        // A certificate for *.s3.amazonaws.com does not hold for names with more dots.
        let dots = scheme == "https" && bucket.contains('.');
        let url = if config.path_style || dots {
            format!("{scheme}://{host}/{bucket}")
        } else {
            format!("{scheme}://{bucket}.{host}")
        };
        Ok(Self { url, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bucket: &str, region: &str, endpoint: &str, path_style: bool) -> Result<(String, String), Error> {
        let config = Config {
            bucket: bucket.into(),
            region: region.into(),
            endpoint: endpoint.into(),
            path_style,
            ..Config::default()
        };
        Place::of(&config).map(|place| (place.url, place.region))
    }

    #[test]
    fn a_bucket_has_one_url() {
        for (bucket, region, endpoint, path_style, url, found) in [
            ("media", "eu-central-1", "", false, "https://media.s3.eu-central-1.amazonaws.com", "eu-central-1"),
            ("media", "cn-north-1", "", true, "https://s3.cn-north-1.amazonaws.com.cn/media", "cn-north-1"),
            ("a.b", "eu-west-1", "", false, "https://s3.eu-west-1.amazonaws.com/a.b", "eu-west-1"),
            ("m", "", "http://127.0.0.1:9000", true, "http://127.0.0.1:9000/m", "us-east-1"),
            ("m", "x", "https://minio.example.org:9000/", false, "https://m.minio.example.org:9000", "x"),
        ] {
            assert_eq!(place(bucket, region, endpoint, path_style).unwrap(), (url.into(), found.into()));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (bucket, region, endpoint) in [
            ("m", "", ""),
            ("m/../n", "eu-west-1", ""),
            ("m", "eu west", ""),
            ("m", "x", "ftp://h"),
            ("m", "x", "minio"),
            ("m", "x", "https://u:p@h"),
            ("m", "x", "https://h/path"),
        ] {
            assert!(place(bucket, region, endpoint, true).is_err(), "{bucket} {region} {endpoint}");
        }
    }
}
