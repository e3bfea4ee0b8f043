# Completion of carillon for bash. Written by tools/reference from what the program says of itself.
_carillon()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' skip='' choices='' word
    local -i i
    COMPREPLY=()
    case $prev in
    --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --data)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --set)
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -W 'durability= net.listen= net.zero_copy= net.send_buffer= net.idle_timeout= net.ping_interval= process.cores= process.readers= process.user= store.dir= store.cache= store.write_buffer= store.reserve= backup.dir= backup.interval= backup.at= backup.keep= backup.rate= admin.master_key= admin.socket= log.level= log.scopes= log.access= log.actions= log.file= debug.echo= auth.query_token= cors.origins= tls.listen= tls.cert= tls.key= tls.min_version= drain.timeout_s= limits.tenant_rate= limits.ip_rate= limits.ip_handshakes= limits.trusted_networks= limits.members_per_room= limits.rooms_per_user= limits.connections= limits.memory= limits.content_chars= limits.presence_room_members= limits.send_queue= notify.attempts= notify.retry_base= notify.expires= notify.keep=' -- "$cur")
        return ;;
    --backup)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return ;;
    --listen|--cores|--room|--id)
        return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $skip ]]; then
            skip=''
            continue
        fi
        case $word in
        --config|--data|--listen|--cores|--set|--room|--id|--backup) skip=1 ;;
        -*) ;;
        *) command+=${command:+ }$word ;;
        esac
    done
    case $command in
    '')
        choices='serve dev check-config config verify-store export-history list-backups verify-backup restore check-json'
        [[ $cur == -* ]] && choices='--help' ;;
    'serve'|'serve '*)
        [[ $cur == -* ]] && choices='--config --cores --data --help --listen --set'
        ;;
    'dev'|'dev '*)
        [[ $cur == -* ]] && choices='--config --cores --data --help --listen --set'
        ;;
    'check-config'|'check-config '*)
        [[ $cur == -* ]] && choices='--config --cores --data --help --listen --set'
        ;;
    'config'|'config '*)
        [[ $cur == -* ]] && choices='--defaults --help'
        ;;
    'verify-store'|'verify-store '*)
        [[ $cur == -* ]] && choices='--help'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    'export-history'|'export-history '*)
        [[ $cur == -* ]] && choices='--all --help --room'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    'list-backups'|'list-backups '*)
        [[ $cur == -* ]] && choices='--help'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    'verify-backup'|'verify-backup '*)
        [[ $cur == -* ]] && choices='--help --id'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    'restore'|'restore '*)
        [[ $cur == -* ]] && choices='--backup --data --force --help --id'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    'check-json'|'check-json '*)
        [[ $cur == -* ]] && choices='--help'
        [[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    esac
    [[ $choices ]] && mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
    return 0
}
complete -o filenames -F _carillon carillon
