/*
 * Our own object identifiers, one table a kind. 1.3.6.1.4.1.55555 stands in until an arc is assigned;
 * changing it is a change of every certificate and message, so it is written here only.
 */
#include "pki/oids.h"

#include "pki/ossl.h"

#define OWN_ARC "1.3.6.1.4.1.55555"

static const struct {
    const char *oid;
    bool own;
} purposes[] = {
    [PURPOSE_ANY] = {"2.5.29.37.0", false},
    [PURPOSE_TLS_SERVER] = {"1.3.6.1.5.5.7.3.1", false},
    [PURPOSE_AGENT_IDENTITY] = {OWN_ARC ".1.1", true},
    [PURPOSE_AGENT_TASK] = {OWN_ARC ".1.2", true},
    [PURPOSE_SERVICE] = {OWN_ARC ".1.3", true},
    [PURPOSE_ENVELOPE] = {OWN_ARC ".1.4", true},
};
_Static_assert(ARRAY_LEN(purposes) == PURPOSE_ENVELOPE + 1, "a row for each purpose");

static const char *const contents[] = {
    [CMS_CONTENT_RECEIPT] = OWN_ARC ".2.1",
    [CMS_CONTENT_REQUEST] = OWN_ARC ".2.2",
    [CMS_CONTENT_DOCUMENT] = OWN_ARC ".2.3",
    [CMS_CONTENT_HEAD] = OWN_ARC ".2.4",
    [CMS_CONTENT_COSIGNATURE] = OWN_ARC ".2.5",
    [CMS_CONTENT_ENVELOPE] = "1.2.840.113549.1.9.16.1.23", /* id-ct-authEnvelopedData (RFC 5083) */
};
_Static_assert(ARRAY_LEN(contents) == CMS_CONTENT_ENVELOPE + 1, "a row for each content type");

const char *pki_purpose_oid(enum pki_purpose purpose)
{
    return purposes[purpose].oid;
}

bool purpose_is_own(enum pki_purpose purpose)
{
    return purposes[purpose].own;
}

ASN1_OBJECT *oid_of_purpose(enum pki_purpose purpose)
{
    return purpose == PURPOSE_ANY ? NULL : MUST(OBJ_txt2obj(purposes[purpose].oid, 1));
}

const char *oid_of_content(enum cms_content type)
{
    return contents[type];
}
