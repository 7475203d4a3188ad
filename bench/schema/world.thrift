// What volo-thrift serves: read by a parser in Rust when the benchmark is built.
namespace rs world

service World {
    i64 multiply(1: required i64 a, 2: required i64 b),
    binary echo(1: required binary data),
}
