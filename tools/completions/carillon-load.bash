# Completion of carillon-load for bash. Written by tools/reference from what the program says of itself.
_carillon_load()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' skip='' choices='' word
    local -i i
    COMPREPLY=()
    case $prev in
    --admin-socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --state)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --record)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --path)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --url|--key|--master-key|--rooms|--subscribers|--publishers|--in-flight|--rate|--size|--seconds|--warmup|--messages|--peer|--frame|--source|--pid|--timeout|--members|--connections|--hold|--users|--method|--body)
        return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $skip ]]; then
            skip=''
            continue
        fi
        case $word in
        --url|--key|--master-key|--admin-socket|--state|--rooms|--subscribers|--publishers|--in-flight|--rate|--size|--seconds|--warmup|--messages|--peer|--frame|--source|--pid|--record|--timeout|--members|--connections|--hold|--users|--path|--method|--body) skip=1 ;;
        -*) ;;
        *) command+=${command:+ }$word ;;
        esac
    done
    case $command in
    '')
        choices='fanout chat durable connect idle rest'
        [[ $cur == -* ]] && choices='--admin-socket --help --json --key --master-key --pid --source --timeout --url' ;;
    'fanout'|'fanout '*)
        [[ $cur == -* ]] && choices='--admin-socket --client-ids --frame --help --in-flight --json --key --master-key --messages --peer --pid --publishers --rate --record --rooms --seconds --size --source --state --subscribers --timeout --tolerate-disconnect --url --warmup'
        ;;
    'chat'|'chat '*)
        [[ $cur == -* ]] && choices='--admin-socket --client-ids --frame --help --in-flight --json --key --master-key --members --messages --peer --pid --rate --record --rooms --seconds --size --source --state --timeout --tolerate-disconnect --url --warmup'
        ;;
    'durable'|'durable '*)
        [[ $cur == -* ]] && choices='--admin-socket --client-ids --help --in-flight --json --key --master-key --messages --pid --publishers --rate --record --rooms --seconds --size --source --state --timeout --tolerate-disconnect --url --warmup'
        ;;
    'connect'|'connect '*)
        [[ $cur == -* ]] && choices='--admin-socket --connections --help --hold --json --key --master-key --peer --pid --rate --source --timeout --url'
        ;;
    'idle'|'idle '*)
        [[ $cur == -* ]] && choices='--admin-socket --connections --help --json --key --master-key --peer --pid --rooms --seconds --source --state --timeout --tolerate-disconnect --url --users'
        ;;
    'rest'|'rest '*)
        [[ $cur == -* ]] && choices='--admin-socket --body --connections --help --json --key --master-key --method --path --pid --seconds --source --timeout --url --warmup'
        ;;
    esac
    [[ $choices ]] && mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
    return 0
}
complete -o filenames -F _carillon_load carillon-load
