# Completion of carillonctl for bash. Written by tools/reference from what the program says of itself.
_carillonctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' skip='' choices='' word
    local -i i
    COMPREPLY=()
    case $prev in
    --socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --role)
        mapfile -t COMPREPLY < <(compgen -W 'server admin read' -- "$cur")
        return ;;
    --type)
        mapfile -t COMPREPLY < <(compgen -W 'group channel' -- "$cur")
        return ;;
    --url|--master-key|--tenant|--user|--limit|--reason|--key|--as|--members|--after-seq|--before-seq)
        return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $skip ]]; then
            skip=''
            continue
        fi
        case $word in
        --socket|--url|--master-key|--tenant|--user|--limit|--reason|--role|--key|--as|--type|--members|--after-seq|--before-seq) skip=1 ;;
        -*) ;;
        *) command+=${command:+ }$word ;;
        esac
    done
    case $command in
    '')
        choices='status top health stats connections kick drain reload tenant key user room message chat dead-letter backup'
        [[ $cur == -* ]] && choices='--help --json --socket --url' ;;
    tenant) choices='list create show disable enable delete' ;;
    key) choices='list create revoke' ;;
    user) choices='list show' ;;
    room) choices='list show create members messages send' ;;
    message) choices='send' ;;
    dead-letter) choices='list retry delete' ;;
    backup) choices='create list' ;;
    'status'|'status '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'top'|'top '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --once --socket --url'
        ;;
    'health'|'health '*)
        [[ $cur == -* ]] && choices='--help --json --socket --url'
        ;;
    'stats'|'stats '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'connections'|'connections '*)
        [[ $cur == -* ]] && choices='--help --json --limit --master-key --socket --tenant --url --user'
        ;;
    'kick'|'kick '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --reason --socket --tenant --url --user'
        ;;
    'drain'|'drain '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url --wait --yes'
        ;;
    'reload'|'reload '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant list'|'tenant list '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant create'|'tenant create '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant show'|'tenant show '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant disable'|'tenant disable '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant enable'|'tenant enable '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'tenant delete'|'tenant delete '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url --yes'
        ;;
    'key list'|'key list '*)
        [[ $cur == -* ]] && choices='--all --help --json --master-key --socket --url'
        ;;
    'key create'|'key create '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --role --socket --url'
        ;;
    'key revoke'|'key revoke '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url --yes'
        ;;
    'user list'|'user list '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'user show'|'user show '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'room list'|'room list '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --socket --tenant --url'
        ;;
    'room show'|'room show '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --socket --tenant --url'
        ;;
    'room create'|'room create '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --members --private --socket --tenant --type --url'
        ;;
    'room members'|'room members '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --socket --tenant --url'
        ;;
    'room messages'|'room messages '*)
        [[ $cur == -* ]] && choices='--after-seq --as --before-seq --help --json --key --limit --master-key --socket --tenant --url'
        ;;
    'room send'|'room send '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --socket --tenant --url'
        ;;
    'message send'|'message send '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --socket --tenant --url'
        ;;
    'chat'|'chat '*)
        [[ $cur == -* ]] && choices='--as --help --json --key --master-key --quiet --socket --tenant --url'
        ;;
    'dead-letter list'|'dead-letter list '*)
        [[ $cur == -* ]] && choices='--help --json --limit --master-key --socket --tenant --url'
        ;;
    'dead-letter retry'|'dead-letter retry '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'dead-letter delete'|'dead-letter delete '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url --yes'
        ;;
    'backup create'|'backup create '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    'backup list'|'backup list '*)
        [[ $cur == -* ]] && choices='--help --json --master-key --socket --url'
        ;;
    esac
    [[ $choices ]] && mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
    return 0
}
complete -o filenames -F _carillonctl carillonctl
