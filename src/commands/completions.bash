
# Bash parts words at `=`: they are put together again as they were typed, and what stands after the last `=` is given back.
_medft() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local -a COMP_WORDS=()
    read -ra COMP_WORDS <<< "$line"
    case "$line" in *[[:space:]]) COMP_WORDS+=("") ;; esac
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    local typed="${COMP_WORDS[COMP_CWORD]}"
    _clap_complete_medft "$1" "$typed" "$3"
    if [[ "$typed" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${typed%=*}="}")
    fi
}
complete -o nospace -o bashdefault -F _medft medft
