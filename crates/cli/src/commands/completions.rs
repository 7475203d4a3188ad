//! `farcall completions`: a script that completes the command line in a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::print;

/// Prints a script that completes commands and flags; in bash, zsh and fish also contexts, and the services, methods and
/// arguments that servers describe.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farcall completions bash > ~/.local/share/bash-completion/completions/farcall
  farcall completions zsh > ~/.zfunc/_farcall
  farcall completions fish > ~/.config/fish/completions/farcall.fish")]
pub(crate) struct CompletionsArgs {
    /// Shell to complete in.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// The part for bash. COMP_WORDS is split at `:`, `=` and `@`, which stand in targets and arguments, so the line is taken;
/// and of a word with one of them, bash replaces only what is behind the last.
const BASH: &str = r#"
_farcall_live() {
    local line=${COMP_LINE:0:COMP_POINT} words current candidate found=()
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]}-1]}
    while IFS=$'\t' read -r candidate _; do
        found+=("$candidate")
    done < <(farcall complete-words -- "${words[@]}" 2> /dev/null)
    if (( ${#found[@]} == 0 )); then
        _farcall "$@"
        return
    fi
    COMPREPLY=("${found[@]#"${current%"${current##*[:=@]}"}"}")
    if [[ ${found[0]} == *[.=] ]]; then
        compopt -o nospace 2> /dev/null
    fi
    return 0
}
complete -F _farcall_live -o bashdefault -o default farcall
"#;

/// The part for zsh.
const ZSH: &str = r#"
_farcall_live() {
    local -a found shown
    local line
    for line in "${(@f)$(farcall complete-words -- "${(@Q)words[1,CURRENT]}" 2> /dev/null)}"; do
        [[ -n $line ]] || continue
        found+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    if (( ! $#found )); then
        _farcall "$@"
    elif [[ $found[1] == *[.=] ]]; then
        compadd -S '' -l -d shown -a found
    else
        compadd -l -d shown -a found
    fi
}
compdef _farcall_live farcall
"#;

/// The part for fish, which adds to the rest.
const FISH: &str = r#"
complete -c farcall -f -n "__fish_seen_subcommand_from ls describe call template bench top health ping doctor" -a "(farcall complete-words -- (commandline -opc) (commandline -ct) 2> /dev/null)"
"#;

/// Prints the script for the command line of `C`.
pub(crate) fn run<C: clap::Parser>(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "farcall", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Zsh {
        // With two colons, zsh takes all words behind the first argument for arguments; but flags may stand there, too.
        script = script.replace("\n'*::", "\n'*:");
    }
    script.push_str(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => "",
    });
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
