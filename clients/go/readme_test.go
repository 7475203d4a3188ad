package farcall

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	printed = regexp.MustCompile(`(?m)^\s*fmt\.Println\(.*\)\s*// (.*)$`)
)

// TestReadme runs every example of the README and of docs/CALLING.md. Each part becomes a function of one program.
func TestReadme(t *testing.T) {
	files := newCertificates(t)
	files.sign("server", "DNS:localhost,IP:127.0.0.1")
	tokens := files.path("tokens")
	must(t, os.WriteFile(tokens, []byte("web q8mXe01rHsZ9\n"), 0o600))
	plain := startDemo(t, "--listen", "tcp@127.0.0.1:0").addresses[0]
	safe := startDemo(t, "--listen", "tls@127.0.0.1:0", "--token-file", tokens,
		"--tls-cert", files.path("server.pem"), "--tls-key", files.path("server.key")).addresses[0]
	readme, err := os.ReadFile("README.md")
	must(t, err)
	calling, err := os.ReadFile("../../docs/CALLING.md")
	must(t, err)
	here := strings.NewReplacer("tcp@127.0.0.1:7001", plain, "tls@127.0.0.1:7443", safe, "/etc/shop/ca.pem", files.path("ca.pem"))

	dir := t.TempDir()
	package1, err := filepath.Abs(".")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example\n\ngo 1.19\n"), 0o600))
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	command := regexp.MustCompile(`(?m)^\$ go (mod edit .*)$`).FindStringSubmatch(string(readme))[1]
	run(strings.Fields(strings.Replace(command, "/path/to/farcall/clients/go", package1, 1))...)

	var parts, calls strings.Builder
	var want []string
	programs := 0
	for i, block := range goBlock.FindAllStringSubmatch(string(readme)+"\n"+string(calling), -1) {
		code := here.Replace(block[1])
		var lines []string
		for _, line := range printed.FindAllStringSubmatch(code, -1) {
			lines = append(lines, strings.Split(line[1], " | ")...)
		}
		if n := strings.Count(code, "fmt.Println("); n != len(printed.FindAllString(code, -1)) {
			t.Fatalf("a print without its output in\n%s", code)
		}
		if strings.HasPrefix(code, "package main") {
			file := fmt.Sprintf("program%d/main.go", i)
			must(t, os.Mkdir(filepath.Join(dir, filepath.Dir(file)), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, file), []byte(code), 0o600))
			assertOutput(t, run("run", "./"+filepath.Dir(file)), lines)
			programs++
			continue
		}
		fmt.Fprintf(&parts, "func part%d(ctx context.Context, client *farcall.Client) {\n%s}\n\n", i, code)
		fmt.Fprintf(&calls, "\tpart%d(ctx, client)\n", i)
		want = append(want, lines...)
	}
	if programs < 1 || len(want) < 15 {
		t.Fatal("examples are missing")
	}
	var imports strings.Builder
	for name, path := range map[string]string{
		"context": "context", "tls": "crypto/tls", "x509": "crypto/x509", "errors": "errors", "fmt": "fmt", "io": "io", "log": "log",
		"os": "os", "time": "time", "farcall": "farcall",
	} {
		if strings.Contains(parts.String(), name+".") {
			fmt.Fprintf(&imports, "\t%q\n", path)
		}
	}
	program := here.Replace(fmt.Sprintf("package main\n\nimport (\n%s)\n\n%sfunc main() {\n\tctx := context.Background()\n"+
		"\tclient, err := farcall.Dial(ctx, \"tcp@127.0.0.1:7001\", nil)\n\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n%s}\n", imports.String(), parts.String(), calls.String()))
	must(t, os.Mkdir(filepath.Join(dir, "parts"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "parts", "main.go"), []byte(program), 0o600))
	run("vet", "./parts")
	assertOutput(t, run("run", "./parts"), want)
}

func assertOutput(t *testing.T, got string, want []string) {
	t.Helper()
	if got != strings.Join(want, "\n")+"\n" {
		t.Fatalf("printed\n%s\nand not\n%s", got, strings.Join(want, "\n"))
	}
}

// TestReadmeIsComplete: the tables name every code and every option.
func TestReadmeIsComplete(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	must(t, err)
	for file, pattern := range map[string]string{"errors.go": `(?m)^\t((?:Code|Execution)\w+) +(?:Code|Execution) = `, "options.go": `(?m)^\t([A-Z]\w+) +\S+$`} {
		source, err := os.ReadFile(file)
		must(t, err)
		names := regexp.MustCompile(pattern).FindAllStringSubmatch(string(source), -1)
		if len(names) < 10 {
			t.Fatal(file, names)
		}
		for _, name := range names {
			if !strings.Contains(string(readme), "`"+name[1]+"`") {
				t.Errorf("%s is not in the README", name[1])
			}
		}
	}
}
