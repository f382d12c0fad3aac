# awk -f without_appended.awk OLD NEW - the dump NEW without the fields that stand behind the recorded end of a struct that carries its size.
# A field inside of the recorded size is kept, also where it fills padding: callers built before need not have zeroed that.
# (abidiff's own rule for appended fields, has_data_member_inserted_at, also lets pass changes that append nothing.)
function attribute(name,    at) {
    if (!match($0, name "='[^']*'")) return ""
    at = substr($0, RSTART, RLENGTH)
    sub(/^[^']*'/, "", at); sub(/'$/, "", at)
    return at
}
FNR == NR {
    if (/<class-decl / && /size-in-bits/) { struct = attribute("name"); size[struct] = attribute("size-in-bits") }
    if (/<var-decl name='struct_size'/) stamped[struct] = 1
    next
}
/<class-decl / {
    struct = attribute("name")
    known = (struct in stamped) && /size-in-bits/ && attribute("size-in-bits") + 0 > size[struct] + 0
    if (known) sub(/size-in-bits='[0-9]*'/, "size-in-bits='" size[struct] "'")
}
/<data-member / && known && attribute("layout-offset-in-bits") + 0 >= size[struct] + 0 { skipping = 1 }
!skipping
/<\/data-member>/ { skipping = 0 }
