package farcall

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

var schemes = []string{"tcp", "unix", "tls", "http", "connect", "https", "ws", "wss"}

// address is a parsed address: a host and a port, or, for unix, a path.
type address struct {
	scheme string
	host   string
	port   uint16
	path   string
}

// parseAddress parses scheme@host:port, unix@/path, or host:port for tcp. Its error names what is wrong.
func parseAddress(text string) (address, error) {
	bad := func(format string, args ...any) (address, error) {
		return address{}, fmt.Errorf("farcall: %q: %s", shownName(text), fmt.Sprintf(format, args...))
	}
	scheme, where, found := strings.Cut(text, "@")
	if !found {
		scheme, where = "tcp", text
	}
	if scheme != "unix" && strings.Contains(text, "://") {
		meant, rest, _ := strings.Cut(text, "://")
		rest, _, _ = strings.Cut(rest, "/")
		return bad("this is a URL; an address is written scheme@host:port, as %s@%s", shownName(meant[strings.LastIndexByte(meant, '@')+1:]), shownName(rest))
	}
	known := false
	for _, s := range schemes {
		known = known || s == scheme
	}
	if !known {
		return bad("the scheme %q is none of %s", shownName(scheme), strings.Join(schemes, ", "))
	}
	if scheme == "unix" {
		if where == "" || strings.ContainsRune(where, 0) {
			return bad("behind unix@ stands the path of a socket")
		}
		return address{scheme: scheme, path: where}, nil
	}
	colon := strings.LastIndexByte(where, ':')
	if colon < 0 {
		return bad("there is no port; an address ends in host:port")
	}
	host, digits := where[:colon], where[colon+1:]
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || digits[0] == '+' {
		return bad("the port %q is no number from 1 to 65535", shownName(digits))
	}
	switch {
	case strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]"):
		host = host[1 : len(host)-1]
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() {
			return bad("[%s] is no IPv6 address", shownName(host))
		}
	case strings.Count(host, ":") > 1:
		return bad("an IPv6 address stands in brackets, as [::1]:7001")
	case strings.Contains(host, ":"):
		return bad("an address is written scheme@host:port")
	case host == "":
		return bad("there is no host")
	default:
		for _, c := range []byte(host) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte(`/?#@\[]`, c) >= 0 {
				return bad("%q is no name of a host", shownName(host))
			}
		}
	}
	return address{scheme: scheme, host: host, port: uint16(port)}, nil
}

// authority returns host:port, as in the Host of HTTP.
func (a address) authority() string {
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

func (a address) String() string {
	if a.scheme == "unix" {
		return "unix@" + a.path
	}
	return a.scheme + "@" + a.authority()
}

// encrypted reports whether the bytes of the scheme are inside TLS.
func (a address) encrypted() bool {
	return a.scheme == "tls" || a.scheme == "https" || a.scheme == "wss"
}
