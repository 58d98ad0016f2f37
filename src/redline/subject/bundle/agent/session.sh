# One command of a shell session: what the shell keeps is restored from a file, the command is run, and it is saved to
# another file. The parts are run before and after the command,
# each in one line. Words between @ are filled in.
_shell_options='' _shell_traps='' _shell_jobs=()

jobs() { # The jobs of earlier commands, which are not children of this process, and those of this one.
    local _shell_n
    for _shell_n in "${!_shell_jobs[@]}"; do
        _shell_lives "$_shell_n" || continue
        builtin printf '[%s]  %s Running                 %s\n' "$_shell_n" "${_shell_jobs[_shell_n]%% *}" "${_shell_jobs[_shell_n]#* * }"
    done
    builtin jobs "$@"
}

kill() { # Knows the numbers of these jobs as well.
    local _shell_n _shell_words=()
    for _shell_n in "$@"; do
        if [[ $_shell_n == %+([0-9]) && -n ${_shell_jobs[${_shell_n#%}]-} ]] && ! builtin jobs "$_shell_n" >/dev/null 2>&1; then
            _shell_n=${_shell_jobs[${_shell_n#%}]%% *}
        fi
        _shell_words+=("$_shell_n")
    done
    builtin kill "${_shell_words[@]}"
}

_shell_started() { # When a process was started, which with its pid names it for ever; nothing if it has ended.
    local _shell_line _shell_fields
    _shell_start=''
    { IFS= builtin read -r -d '' _shell_line </proc/"$1"/stat; } 2>/dev/null
    _shell_line=${_shell_line##*) }
    IFS=$' \n' builtin read -r -a _shell_fields <<<"${_shell_line//$'\n'/ }"
    # The kernel calls a process a zombie whose first thread has ended, while its other threads run on.
    [[ ${_shell_fields[0]-Z} == [ZX] && ${_shell_fields[17]-1} -le 1 ]] || _shell_start=${_shell_fields[19]-}
    [[ -n $_shell_start ]]
}

_shell_lives() { # Whether an earlier job still runs.
    local _shell_pid _shell_then _shell_rest _shell_start
    IFS=' ' builtin read -r _shell_pid _shell_then _shell_rest <<<"${_shell_jobs[$1]}"
    _shell_started "$_shell_pid" && [[ $_shell_start == "$_shell_then" ]]
}

_shell_return() { return "$1"; }

_shell_number() { # The number of a job by its first process: the next free one, and the same when it is asked again.
    if [[ -z ${_shell_given[$1]-} ]]; then
        while [[ -n ${_shell_jobs[_shell_n]-} ]]; do ((_shell_n++)); done
        _shell_given[$1]=$((_shell_n++))
    fi
}

_shell_read_jobs() { # Report the jobs that have ended, and note those that run, each by its first and its last process.
    local _shell_line _shell_rest _shell_first _shell_runs=''
    _shell_firsts=() _shell_pids=() _shell_texts=()
    for _shell_line in "${_shell_lines[@]}"; do
        if [[ $_shell_line =~ ^\[[0-9]+\].?\ +([0-9]+)\ (.*)$ ]]; then
            _shell_runs='' _shell_rest=${BASH_REMATCH[2]} _shell_first=${BASH_REMATCH[1]}
            _shell_number "$_shell_first"
            if [[ $_shell_rest == Running* ]]; then
                _shell_runs=1 _shell_rest=${_shell_rest#Running}
                _shell_firsts+=("$_shell_first") _shell_pids+=("$_shell_first")
                _shell_texts+=("${_shell_rest#"${_shell_rest%%[! ]*}"}")
            else
                builtin printf '[%s]  %s %s\n' "${_shell_given[$_shell_first]}" "$_shell_first" "$_shell_rest"
            fi
        elif [[ $_shell_line =~ ^\ +([0-9]+)\ [^|]*(\|.*)$ ]]; then # a further process of the same job
            if [[ -n $_shell_runs ]]; then
                _shell_pids[-1]=${BASH_REMATCH[1]} _shell_texts[-1]+=" ${BASH_REMATCH[2]}"
            else
                builtin printf '%s\n' "$_shell_line"
            fi
        fi
    done
}

_shell_all_live() { # Whether there are jobs that run, and none of them has ended.
    local _shell_pid _shell_start
    ((${#_shell_pids[@]})) || return 1
    for _shell_pid in "${_shell_pids[@]}"; do _shell_started "$_shell_pid" || return 1; done
}

if [[ -n @LAST@ ]]; then
    # A file that the last command did not write to its end is not taken: the shell of that command has ended.
    _shell_lines=()
    [[ -f @READ@ ]] && builtin mapfile -t _shell_lines 2>/dev/null <@READ@
    if [[ ${#_shell_lines[@]} != 0 && ${_shell_lines[-1]-} == _shell_whole=@LAST@ ]]; then
        unset -v _shell_lines
        . @READ@ >/dev/null 2>&1
        _shell_n=${OLDPWD-}
        if ! builtin cd -- "$PWD" >/dev/null 2>&1; then
            _shell_line=$PWD
            builtin cd -- "$(builtin pwd)"
            builtin printf '[%s is gone: the shell is in %s]\n' "$_shell_line" "$PWD"
        fi
        OLDPWD=$_shell_n
    else
        builtin printf '[the last shell has ended: this is a new one, in %s]\n' "$PWD"
    fi
fi
_shell_command=@COMMAND@
if [[ -z $_shell_options ]]; then
    _shell_options=$SHELLOPTS
    @PREAMBLE@
fi
_shell_options=${_shell_options//:/ -o } _shell_again=''
# `$?` is that of the last command; where this would end the shell, or show, it is left.
[[ ${_shell_status:-0} == 0 || $_shell_options == *@(errexit|xtrace)* ]] || _shell_again="; _shell_return $_shell_status"
_shell_command="$_shell_traps"${_shell_traps:+$'\n'}"set +o braceexpand +o hashall +o interactive-comments -o $_shell_options$_shell_again; $_shell_command"
unset -v _shell_n _shell_script

# --- the command is run here, and its status is kept; then the shell is made ready to be saved
_shell_options=$SHELLOPTS
builtin enable alias cd declare exit jobs mapfile printf pwd read set shopt trap ulimit umask wait
_shell_traps=$(builtin trap -p)
builtin trap - DEBUG ERR RETURN EXIT
builtin set +eufxvCk
_shell_command=''
# --- the rest
[[ -d @FOLDER@ ]] || command mkdir -p -m 700 -- @FOLDER@ 2>/dev/null

if [[ -n @GRACE@ ]]; then
    # Not in a subshell, for which the shell would forget the jobs that have ended.
    _shell_lines=() _shell_given=() _shell_n=1
    builtin jobs -l 2>/dev/null >| @FOLDER@/jobs && builtin mapfile -t _shell_lines <@FOLDER@/jobs
    for _shell_n in "${!_shell_jobs[@]}"; do
        if ! _shell_lives "$_shell_n"; then
            builtin printf '[%s]  %s Ended                   %s\n' "$_shell_n" "${_shell_jobs[_shell_n]%% *}" "${_shell_jobs[_shell_n]#* * }"
            unset -v "_shell_jobs[$_shell_n]"
        fi
    done
    _shell_read_jobs
    # What was started in the background may fail at once: that is seen now, as in a shell that prompts.
    _shell_steps=0
    while ((_shell_steps++ < @GRACE@)) && _shell_all_live; do command sleep 0.05; done
    if ((_shell_steps <= @GRACE@)) && ((${#_shell_firsts[@]})); then
        command sleep 0.02 # the shell takes note of an end only when it waits for something
        builtin jobs -l 2>/dev/null >| @FOLDER@/jobs && builtin mapfile -t _shell_lines <@FOLDER@/jobs
        _shell_read_jobs
    fi
    for _shell_line in "${!_shell_firsts[@]}"; do
        _shell_n=${_shell_given[${_shell_firsts[_shell_line]}]}
        _shell_started "${_shell_pids[_shell_line]}"
        builtin printf '[%s]  %s %-23s %s\n' "$_shell_n" "${_shell_pids[_shell_line]}" Running "${_shell_texts[_shell_line]}"
        _shell_jobs[_shell_n]="${_shell_pids[_shell_line]} ${_shell_start:-0} ${_shell_texts[_shell_line]}"
    done
fi

if [[ -n @WRITE@ ]]; then
    unset -v _shell_lines _shell_line _shell_steps _shell_firsts _shell_pids _shell_texts _shell_given
    # In one line: text that the shell holds in a variable is no file of that text.
    _shell_state=$({
        builtin shopt -p
        builtin declare -p
        for _shell_n in HOME PATH LANG TERM; do
            [[ -v $_shell_n ]] || builtin printf 'unset -v %s\n' "$_shell_n"
        done
        builtin declare -f
        builtin declare -F
        builtin alias -p
        builtin printf 'set --'
        (($#)) && builtin printf ' %q' "$@"
        builtin printf '\n'
        builtin umask -p
        for _shell_n in c d f n s t u v; do
            builtin printf 'ulimit -S -%s ' "$_shell_n"
            builtin ulimit -S "-$_shell_n"
            builtin printf 'ulimit -H -%s ' "$_shell_n"
            builtin ulimit -H "-$_shell_n"
        done
    } 2>/dev/null)
    { builtin printf 'eval %q\n_shell_whole=%s\n' "$_shell_state" @NUMBER@ >| @WRITE@; } 2>/dev/null
fi
