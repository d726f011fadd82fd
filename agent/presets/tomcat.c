/*
 * A reader of Tomcat's server.xml: see preset.h. expat does the XML; a document type, and with it every
 * entity, is refused. Takes Connector, SSLHostConfig and Certificate, and the attributes that Connectors had
 * before those. Pure and bounded.
 */
#include <expat.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>

#include "presets/preset.h"

#define DEPTH_MAX    64
#define ELEMENTS_MAX 20000

struct parser {
    XML_Parser xml;
    struct arena *arena;
    Clm__Agent__Facts *facts;
    const char *base;                 /* ${catalina.base} */
    const char *endpoint, *host_name; /* of the Connector and the SSLHostConfig that we are in; NULL: none */
    unsigned depth, elements, connector_depth;
    const char *refused;
};

static const char *attribute(const XML_Char **list, const char *name)
{
    for (; list[0]; list += 2) {
        if (strcmp(list[0], name) == 0)
            return list[1];
    }
    return NULL;
}

/* The first of two names: that of a Certificate, and what a Connector called it before. */
static const char *either(const XML_Char **list, const char *now, const char *before)
{
    const char *value = attribute(list, now);
    return value ? value : attribute(list, before);
}

/* ${catalina.base} and paths relative to it; NULL for what another property says. */
static const char *file_path(struct parser *parser, const char *value)
{
    static const char *const bases[] = {"${catalina.base}", "${catalina.home}", "file://"};
    if (!value || !value[0])
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
        size_t len = strlen(bases[i]);
        if (strncmp(value, bases[i], len) == 0 && value[len] == '/')
            return i < 2 ? arena_printf(parser->arena, "%s%s", parser->base, value + len)
                         : arena_strdup(parser->arena, value + len);
    }
    return strchr(value, '$') ? NULL
                              : conf_path(parser->arena, parser->base, arena_strdup(parser->arena, value));
}

static void add(struct parser *parser, Clm__Agent__ServerFacts *server)
{
    conf_add_listen(parser->arena, server, parser->endpoint);
    if (parser->host_name)
        conf_add_name(parser->arena, server, parser->host_name);
    conf_add_server(parser->arena, parser->facts, server);
}

static void add_keystore(struct parser *parser, const XML_Char **list, const char *path)
{
    const char *type = either(list, "certificateKeystoreType", "keystoreType");
    const char *password = either(list, "certificateKeystorePassword", "keystorePass");
    const char *password_file = file_path(parser, attribute(list, "certificateKeystorePasswordFile"));
    Clm__Agent__ServerFacts *server = conf_server(parser->arena, path, path);
    server->store = arena_strdup(parser->arena, !type                             ? "keystore"
                                                : strcasecmp(type, "PKCS12") == 0 ? "pkcs12"
                                                : strcasecmp(type, "JKS") == 0    ? "jks"
                                                                                  : NULL);
    server->password_file = arena_strdup(parser->arena, password_file);
    if (!password_file && !(password && strstr(password, "${")))
        server->password = arena_strdup(parser->arena, password ? password : "changeit");
    if (server->store)
        add(parser, server);
}

static void on_certificate(struct parser *parser, const XML_Char **list)
{
    const char *keystore = file_path(parser, either(list, "certificateKeystoreFile", "keystoreFile"));
    const char *certificate = file_path(parser, either(list, "certificateFile", "SSLCertificateFile"));
    const char *key = file_path(parser, either(list, "certificateKeyFile", "SSLCertificateKeyFile"));
    if (certificate) {
        Clm__Agent__ServerFacts *server = conf_server(parser->arena, certificate, key ? key : certificate);
        server->chain =
            arena_strdup(parser->arena,
                         file_path(parser, either(list, "certificateChainFile", "SSLCertificateChainFile")));
        add(parser, server);
    } else if (keystore) {
        add_keystore(parser, list, keystore);
    }
}

static void on_connector(struct parser *parser, const XML_Char **list)
{
    const char *enabled = attribute(list, "SSLEnabled"), *address = attribute(list, "address");
    const char *port = attribute(list, "port");
    if (!port || !enabled || strcasecmp(enabled, "true") != 0)
        return;
    parser->endpoint = conf_endpoint(parser->arena, address ? arena_strdup(parser->arena, address) : "*",
                                     arena_strdup(parser->arena, port));
    parser->connector_depth = parser->depth;
    on_certificate(parser, list);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **list)
{
    struct parser *parser = arg;
    if (++parser->depth > DEPTH_MAX || ++parser->elements > ELEMENTS_MAX) {
        parser->refused = "has too many elements";
        (void)XML_StopParser(parser->xml, XML_FALSE);
        return;
    }
    if (strcmp(name, "Connector") == 0) {
        parser->endpoint = parser->host_name = NULL;
        on_connector(parser, list);
    } else if (parser->endpoint && strcmp(name, "SSLHostConfig") == 0) {
        const char *host = attribute(list, "hostName");
        parser->host_name = host ? arena_strdup(parser->arena, host) : NULL;
        on_certificate(parser, list);
    } else if (parser->endpoint && strcmp(name, "Certificate") == 0) {
        on_certificate(parser, list);
    }
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    struct parser *parser = arg;
    if (strcmp(name, "SSLHostConfig") == 0)
        parser->host_name = NULL;
    if (parser->endpoint && parser->depth == parser->connector_depth)
        parser->endpoint = NULL;
    parser->depth--;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int has_subset)
{
    struct parser *parser = arg;
    (void)name;
    (void)system;
    (void)public;
    (void)has_subset;
    parser->refused = "declares a document type, which is not read";
    (void)XML_StopParser(parser->xml, XML_FALSE);
}

void tomcat_read(void *arg, struct arena *arena, Clm__Agent__Facts *facts)
{
    const struct conf *conf = arg;
    const char *text = conf->file[0].text;
    struct parser parser = {.arena = arena, .facts = facts};
    unsigned long salt;
    parser.base = conf_dir(arena, conf_dir(arena, conf->file[0].path));
    parser.xml = XML_ParserCreate(NULL);
    if (!parser.xml)
        abort();
    /* Left alone, expat would look for randomness where there is none to be opened. */
    memcpy(&salt, (const void *)getauxval(AT_RANDOM), sizeof(salt));
    (void)XML_SetHashSalt(parser.xml, salt | 1);
    XML_SetUserData(parser.xml, &parser);
    XML_SetElementHandler(parser.xml, on_start, on_end);
    XML_SetStartDoctypeDeclHandler(parser.xml, on_doctype);
    if (XML_Parse(parser.xml, text, (int)strlen(text), 1) != XML_STATUS_OK)
        confine_fail(facts, arena, CODE_INVALID_ARGUMENT, "%.120s %s", conf->file[0].path,
                     parser.refused ? parser.refused : XML_ErrorString(XML_GetErrorCode(parser.xml)));
    XML_ParserFree(parser.xml);
}
