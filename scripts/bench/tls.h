// The few functions of OpenSSL 3 that the bench calls, declared by hand: every machine with nginx and HAProxy has
// libssl.so.3, but few have its headers. The macros of OpenSSL are spelled out here with their numbers.
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;

const SSL_METHOD *TLS_server_method(void);
const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *method);
long SSL_CTX_ctrl(SSL_CTX *context, int command, long number, void *pointer);
int SSL_CTX_use_certificate_chain_file(SSL_CTX *context, const char *file);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *context, const char *file, int type);
SSL *SSL_new(SSL_CTX *context);
void SSL_free(SSL *tls);
int SSL_set_fd(SSL *tls, int fd);
int SSL_connect(SSL *tls);
int SSL_accept(SSL *tls);
int SSL_read(SSL *tls, void *bytes, int length);
int SSL_write(SSL *tls, const void *bytes, int length);
int SSL_get_error(const SSL *tls, int result);
void ERR_clear_error(void);

enum { SSL_FILETYPE_PEM = 1 };
enum { SSL_ERROR_WANT_READ = 2, SSL_ERROR_WANT_WRITE = 3 };
enum { SSL_CTRL_MODE = 33 };
// Partial writes, from a buffer that may move, and no buffers for connections that are idle.
enum { SSL_MODES = 0x01 | 0x02 | 0x10 };

#endif
