"""textgen completion: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from textgen.cli import output
from textgen.cli.command import SectionCommand

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
        env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1" 2>/dev/null
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
ZSH = r"""#compdef %(prog_name)s

%(complete_func)s() {
    local -a completions completions_with_descriptions response
    local type key descr
    (( $+commands[%(prog_name)s] )) || return 1
    response=("${(@f)$(
        env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null
    )}")
    [[ ${words[CURRENT]} == -*=* ]] && compset -P 1 '*='  # the answers are values of the option, without it

    for type key descr in "${response[@]}"; do
        case $type in
            plain)
                if [[ $descr == _ ]]; then
                    completions+=("$key")
                else
                    completions_with_descriptions+=("$key:$descr")
                fi
                ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    if (( $#completions_with_descriptions )); then
        _describe -V unsorted completions_with_descriptions
    fi
    if (( $#completions )); then
        compadd -V unsorted -a completions
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
FISH = r"""function %(complete_func)s
    set -l word (commandline -ct)
    set -l option (string match -r -- '^-[^=]*=' $word)  # the answers are values of the option, without it
    set -l response (
        env COMP_WORDS=(commandline -cp) COMP_CWORD=$word %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null
    )
    for answer in $response
        set -l parts (string split -m 1 "," $answer)
        switch $parts[1]
            case plain
                echo -- "$option$parts[2]"
            case dir
                for path in (__fish_complete_directories $parts[2])
                    echo -- "$option$path"
                end
            case file
                for path in (__fish_complete_path $parts[2])
                    echo -- "$option$path"
                end
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """Completion in Bash. The script of Click neither quotes nor knows `--option=VALUE`."""

    source_template = BASH


class Zsh(ZshComplete):
    """Completion in zsh. The script of Click replaces `--option=` by the value."""

    source_template = ZSH


class Fish(FishComplete):
    """Completion in fish. The script of Click does not know `--option=VALUE`, and cuts what has a comma."""

    source_template = FISH


# In place of Click's scripts. They ask the program in the same way.
SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


@click.command(cls=SectionCommand)
@click.argument("shell", type=click.Choice(list(SHELLS)))
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
    output.write(SHELLS[shell](ctx.find_root().command, {}, "textgen", VARIABLE).source())
