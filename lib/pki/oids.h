/* Private to lib/pki: dotted OIDs of our eContentTypes (purposes: pki_purpose_oid in cert.h). */
#ifndef CLM_PKI_OIDS_H
#define CLM_PKI_OIDS_H

#include "pki/cms.h"

const char *oid_of_content(enum cms_content type);

#endif
