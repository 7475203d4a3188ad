//! Parameters must be a name and a type that is owned, or borrowed from the request.

#[farcall::service]
trait Text {
    async fn text(&self, text: &mut str);
    async fn bytes(&self, bytes: &'static [u8]);
    async fn list(&self, list: &[String]);
    async fn inside(&self, list: Vec<&str>, map: Option<&'static [i64]>);
    async fn lifetime(&self, text: std::borrow::Cow<'a, str>);
    async fn bytes_inside(&self, data: Option<Cow<'_, [u8]>>);
    async fn any(&self, value: impl ToString);
    async fn own(&self, other: Self);
    async fn pattern(&self, (a, b): (i64, i64));
    async fn unnamed(&self, _: i64);
    async fn changed(&self, mut a: i64);
    async fn twins(&self, a: i64, r#a: i64);
    async fn attribute(&self, #[allow(unused)] a: i64);
    async fn late(&self, a: i64, cx: &Context);
    async fn exclusive(&self, cx: &mut Context);
}

fn main() {}
