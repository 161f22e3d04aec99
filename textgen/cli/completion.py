"""textgen completion: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

from textgen.cli import output
from textgen.cli.command import SectionCommand

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TEXTGEN_COMPLETE"  # with this environment variable Click prints completions
BASH = r"""
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} words=() piece space i
    for ((i = 0; i < COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]} space=${line%%%%"$piece"*} line=${line#*"$piece"}
        if ((i)) && [[ -z $space ]]; then  # Bash splits words at = and : too
            words[-1]+=$piece
        else
            words+=("$piece")
        fi
    done
    if [[ $piece == *[\<\>] ]]; then
        compopt -o default
        return
    fi
    piece=${line#"${line%%%%[![:space:]]*}"}
    if [[ $piece == "$line" ]]; then
        words[-1]+=$piece
    else
        words+=("$piece")
    fi

    # Readline replaces the part of the word after its head. What textgen answers replaces the part after the option.
    local word=${words[-1]} option= quote= head
    head=${word%%"$2"}
    if [[ $head == *[\"\'] ]]; then
        quote=${head: -1} head=${head%%?}
    fi
    [[ $word == -*=* ]] && option=${word%%%%=*}=

    local answers answer value path
    answers=$(
        IFS=$'\n'
        env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1"
    )
    while IFS= read -r answer; do
        value=${answer#*,}
        case ${answer%%%%,*} in
            plain) %(complete_func)s_add "$value" ;;
            file | dir)
                if [[ $head == "$option" ]]; then
                    if [[ $answer == file,* ]]; then compopt -o default; else compopt -o dirnames; fi
                    continue
                fi
                while IFS= read -r path; do  # Bash would complete the piece after the last colon
                    if [[ -d $path ]]; then
                        %(complete_func)s_add "$path/"
                    elif [[ -n $path && $answer == file,* ]]; then
                        %(complete_func)s_add "$path"
                    fi
                done <<<"$(compgen -f -- "$value")"
                ;;
        esac
    done <<<"$answers"
}

%(complete_func)s_add() {
    local i character special=$' \t"\'\\`$&|;<>()[]{}*?!#~^' quoted=
    case $quote in
        \') quoted=${1//\'/"'\\''"} special= ;;
        \") special='"\`$' ;;
    esac
    for ((i = 0; i < ${#1} && ${#special}; i++)); do  # not printf %%q, which writes \303 where the locale is C
        character=${1:i:1}
        [[ $special == *"$character"* ]] && quoted+=\\
        quoted+=$character
    done
    quoted=$option$quoted
    [[ $quoted == *[:/] ]] && compopt -o nospace
    COMPREPLY+=("${quoted#"$head"}")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion in Bash, with a script in place of Click's, which neither quotes nor knows `--option=VALUE`.

    Both ask the program in the same way.
    """

    source_template = BASH


@click.command(cls=SectionCommand)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Load it when the shell starts: for bash, put the second line below into ~/.bashrc; for zsh, the third into
    ~/.zshrc, after compinit. Then the Tab key completes commands, options, their values, the names of saved models, and
    files.

    \b
    Example:
      textgen completion bash
      source <(textgen completion bash)
      source <(textgen completion zsh)
      textgen completion fish > ~/.config/fish/completions/textgen.fish
    """
    if kind := Bash if shell == "bash" else get_completion_class(shell):
        output.write(kind(ctx.find_root().command, {}, "textgen", VARIABLE).source())
